"""dm-verity: parameters, superblock, hash trees, and the files that hold them."""
