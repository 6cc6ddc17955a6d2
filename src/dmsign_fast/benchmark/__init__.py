"""How fast this machine does what dmsign-fast does."""
