"""IPE, the Linux security module that runs only what a policy allows: policies and their state."""
