"""Who signs: key specs and schemes, the Signer protocol and its providers, one file each."""
