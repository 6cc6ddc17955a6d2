"""The kinds of nodes that mount signed layers, and what each reads: one table, one row each."""

from __future__ import annotations

from dataclasses import dataclass

from dmsign_fast.errors import ParameterError

__all__ = ["NODES", "Node", "node_of"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A kind of node.

    Attributes:
        name: as users give it.
        form: that it reads, a name in forms.FORMS; None if it passes no signature to the kernel.
        keys: of signatures that it takes, names in signing.scheme.KeySpec; none: all Linux takes.
        digests: of signatures that it takes, likewise.
        attributes: whether it takes signed attributes.
        code_signing: whether the signer's certificate must be for code signing.
        native: whether it takes layers that are EROFS images.
        setting: of containerd's EROFS snapshotter, which makes it such a node when it is true.
        recipe: of the images that it mounts; None where containerd's settings decide.
    """

    name: str
    form: str | None
    keys: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    attributes: bool = True
    code_signing: bool = False
    native: bool = True
    setting: str | None = None
    recipe: str | None = None


NODES = (
    # acl/SPECS/containerd2/erofs-signed-dmverity.patch of microsoft/azure-container-linux
    Node(
        name="acl",
        form="acl",
        native=False,
        setting="enable_dmverity_referrers",
        recipe="containerd-tar-index",
    ),
    # notation 2.0.0~alpha.1 of Azure Linux, verify --dm-verity
    Node(
        name="azurelinux",
        form="azurelinux",
        keys=("RSA-2048",),
        digests=("sha256",),
        attributes=False,
        code_signing=True,
    ),
    # all releases up to 2.4.0-beta
    Node(name="containerd", form=None),
    # the prototype; a branch of containerd reads the same
    Node(name="osguard", form="osguard", setting="require_signatures"),
)


def node_of(name: str) -> Node:
    """The kind of that name; ParameterError, with those there are, without one."""
    for node in NODES:
        if node.name == name:
            return node
    known = ", ".join(node.name for node in NODES)
    raise ParameterError(f"no kind of node is called {name!r}: use one of {known}")
