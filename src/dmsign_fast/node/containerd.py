"""containerd's settings for EROFS and dm-verity.

Names are those of containerd 2.3: ``plugins/snapshots/erofs/plugin``, ``plugins/diff/erofs/plugin``
and ``internal/cri/config``. Files that the configuration imports are not read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from dmsign_fast.node.findings import Finding, State
from dmsign_fast.node.programs import mkfs_version
from dmsign_fast.node.system import System, UnseenError

__all__ = ["check_containerd"]

_PATH = "/etc/containerd/config.toml"
_DIFFER = "io.containerd.differ.v1.erofs"
_SNAPSHOTTER = "io.containerd.snapshotter.v1.erofs"
_DIFF_SERVICE = "io.containerd.service.v1.diff-service"
_CRI = (("io.containerd.cri.v1.images",), ("io.containerd.grpc.v1.cri", "containerd"))
# what containerd gives by itself: internal/erofsutils/mount.go
_GIVEN = ("--tar=f", "--tar=i", "--aufs", "--quiet", "-Enoinline_data", "-b4096")


def check_containerd(system: System) -> Iterator[Finding]:
    """Check whether containerd puts layers behind dm-verity, as which recipe."""
    try:
        text = system.text(_PATH)
    except UnseenError as error:
        yield Finding("containerd", State.UNKNOWN, str(error), "run as root")
        return
    if text is None:
        yield Finding("containerd", State.NOTE, f"no {_PATH}")
        return
    try:
        plugins = _table(tomllib.loads(text), "plugins")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        evidence = f"{_PATH} is not TOML: {error}"
        yield Finding("containerd", State.PROBLEM, evidence, "correct it")
        return
    named = [str(found) for at in _CRI if (found := _table(plugins, *at).get("snapshotter"))]
    if "erofs" not in named and _SNAPSHOTTER not in plugins and _DIFFER not in plugins:
        evidence = f"{_PATH} names the snapshotter {', '.join(named) or 'of the platform'}"
        advice = "layers go through dm-verity with the snapshotter and the differ erofs"
        yield Finding("containerd", State.NOTE, evidence, advice)
        return
    yield from _check_erofs(plugins, named)
    yield from _check_recipe(_table(plugins, _DIFFER), system)


def _check_erofs(plugins: dict[str, Any], named: list[str]) -> Iterator[Finding]:
    if "erofs" in named:
        yield Finding("containerd snapshotter", State.OK, "erofs, for CRI")
    else:
        evidence = f"for CRI {', '.join(named) or 'that of the platform'}, though erofs is set up"
        advice = 'set snapshotter = "erofs" for CRI, or use ctr run --snapshotter erofs'
        yield Finding("containerd snapshotter", State.NOTE, evidence, advice)
    order = _table(plugins, _DIFF_SERVICE).get("default", ["walking"])
    if isinstance(order, list) and order[:1] == ["erofs"]:
        yield Finding("containerd differ", State.OK, f"default = {order}")
    else:
        advice = f'[plugins."{_DIFF_SERVICE}"] default = ["erofs", "walking"]'
        yield Finding("containerd differ", State.PROBLEM, f"default = {order}", advice)
    enabled = _table(plugins, _DIFFER).get("enable_dmverity", False)
    if enabled is True:
        yield Finding("containerd enable_dmverity", State.OK, "true")
    else:
        advice = f'[plugins."{_DIFFER}"] enable_dmverity = true'
        yield Finding("containerd enable_dmverity", State.PROBLEM, str(enabled).lower(), advice)
    mode = _table(plugins, _SNAPSHOTTER).get("dmverity_mode", "auto")
    advice = f'[plugins."{_SNAPSHOTTER}"] dmverity_mode = "on"'
    if mode == "on":
        yield Finding("containerd dmverity_mode", State.OK, "on")
    elif mode == "off":
        yield Finding("containerd dmverity_mode", State.PROBLEM, "off", advice)
    else:
        evidence = f"{mode}: a layer without dm-verity is mounted too"
        yield Finding("containerd dmverity_mode", State.PROBLEM, evidence, advice)


def _check_recipe(differ: dict[str, Any], system: System) -> Iterator[Finding]:
    from dmsign_fast.erofs.recipe import RECIPES

    tar_index = differ.get("enable_tar_index") is True
    row = next(recipe for recipe in RECIPES if recipe.enable_tar_index is tar_index)
    wanted = [one for one in row.mkfs_arguments if one not in _GIVEN]
    options = differ.get("mkfs_options", [])
    given = [str(one) for one in options] if isinstance(options, list) else [str(options)]
    missing = [one for one in wanted if one not in given]
    try:
        recipe = f"{row.name}@{mkfs_version(system)}"
    except UnseenError:
        recipe = f"{row.name}@ the version of mkfs.erofs"
    if missing:
        advice = f'[plugins."{_DIFFER}"] mkfs_options = {wanted}'.replace("'", '"')
        evidence = f"mkfs_options lack {' '.join(missing)}: no root hash is as signed"
        yield Finding("recipe", State.PROBLEM, evidence, advice)
    elif more := [one for one in given if one not in (*wanted, *_GIVEN)]:
        evidence = f"mkfs_options {' '.join(more)} are in no recipe"
        yield Finding("recipe", State.NOTE, evidence, f"sign with --recipe {recipe} and compare")
    else:
        yield Finding("recipe", State.OK, f"sign with --recipe {recipe}")


def _table(value: Any, *names: str) -> dict[str, Any]:
    """Return the table in a table, empty if there is none or something else."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
