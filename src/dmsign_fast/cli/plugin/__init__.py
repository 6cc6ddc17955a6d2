"""``dmsign-fast plugin ...``: the plugins of notation, which have keys for us too."""

__all__ = ["ABOUT", "COMMANDS", "EXAMPLES", "HELP"]

HELP = "manage the plugins of notation that keep keys, and install this program as one"
ABOUT = """\
A plugin is a program notation-NAME that signs with keys of its own, such as those of a cloud, or
verifies signatures. It is found where notation finds it.
"""
EXAMPLES = """\
examples:
  dmsign-fast plugin list
  dmsign-fast plugin install notation-azure-kv_1.2.1_linux_amd64.tar.gz
  dmsign-fast plugin install                            this program, for notation
"""
COMMANDS = ("list", "describe", "install", "uninstall")
