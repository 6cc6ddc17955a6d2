"""A machine that opens signed images: what it has, what it trusts, and what it would refuse."""
