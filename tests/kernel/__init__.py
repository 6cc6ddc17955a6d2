"""A Linux kernel in a virtual machine judges what dmsign-fast makes, and what others make of it."""
