"""``dmsign-fast fleet ...``: many images, whose layers are hashed once."""

__all__ = ["ABOUT", "COMMANDS", "EXAMPLES", "HELP"]

HELP = "sign or verify many images: each different layer is read once, here or on Dask"
ABOUT = """\
A run is written down in a state file, by which it can be resumed and reported on. Workers are
processes of this machine or of a Dask cluster; keys stay with the command itself.
"""
EXAMPLES = """\
examples:
  dmsign-fast fleet plan --from images.txt --state run.state --key release
  dmsign-fast fleet sign --from images.txt --state run.state --key release
  dmsign-fast fleet report run.state
"""
COMMANDS = ("sign", "verify", "plan", "status", "report", "check")
