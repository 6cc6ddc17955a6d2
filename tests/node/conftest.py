"""The node that all findings start from."""

import gzip

import pytest
from nodes import CAPTURED, RELEASE, RINGS, Node


@pytest.fixture
def node(tmp_path):
    """Enrolled and sealed, started as FORMATS and docs/node.md have it."""
    made = Node(tmp_path / "node", dict(RINGS), sealed=True)
    made.write("proc/sys/kernel/osrelease", f"{RELEASE}\n")
    made.write("proc/keys", (CAPTURED / "keys-enrolled").read_bytes())
    config = gzip.decompress((CAPTURED / "config.gz").read_bytes())
    made.write(f"boot/config-{RELEASE}", config)
    values = {"require_signatures": "Y", "keyring_unsealed": "Y", "prefetch_cluster": "262144"}
    for name, value in values.items():
        made.parameter(name, value)
    made.write("sys/kernel/security/ipe/enforce", "1")
    (made.root / "sys/kernel/security/ipe/policies").mkdir()
    return made
