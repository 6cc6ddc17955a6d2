"""``dmsign-fast fleet ...``: many images, whose layers are hashed once."""

__all__ = ["COMMANDS", "HELP"]

HELP = "sign or verify many images: each different layer is read once, here or on Dask"
COMMANDS = ("sign", "verify", "plan", "status", "report", "check")
