"""containerd's settings for EROFS and dm-verity.

Names are those of containerd 2.3: ``plugins/snapshots/erofs/plugin``, ``plugins/diff/erofs/plugin``
and ``internal/cri/config``; how files are merged is in ``cmd/containerd/server/config``.
"""

from __future__ import annotations

import fnmatch
import posixpath
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dmsign_fast.errors import ParameterError
from dmsign_fast.node.findings import Finding, State
from dmsign_fast.node.programs import mkfs_version
from dmsign_fast.node.system import System, UnseenError
from dmsign_fast.pipeline.nodes import NODES, Node, node_of

if TYPE_CHECKING:
    from dmsign_fast.erofs.recipe import Recipe

__all__ = ["check_containerd", "node_of_containerd", "recipe_of_containerd"]

# containerd's own, and those that k3s and RKE2 write for theirs
_PATHS = (
    "/etc/containerd/config.toml",
    "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
)
_DROP_INS = "/etc/containerd/conf.d/*.toml"  # which containerd imports from 2.2 on, asked or not
_MAX_FILES = 256

_DIFFER = "io.containerd.differ.v1.erofs"
_SNAPSHOTTER = "io.containerd.snapshotter.v1.erofs"
_DIFF_SERVICE = "io.containerd.service.v1.diff-service"
_CRI = (("io.containerd.cri.v1.images",), ("io.containerd.grpc.v1.cri", "containerd"))
_RUNTIMES = (
    ("io.containerd.cri.v1.runtime", "containerd", "runtimes"),
    ("io.containerd.grpc.v1.cri", "containerd", "runtimes"),
    ("io.containerd.cri.v1.images", "runtime_platforms"),
)
# what containerd gives by itself: internal/erofsutils/mount.go
_GIVEN = ("--tar=f", "--tar=i", "--aufs", "--quiet", "-Enoinline_data", "-b4096")
# options of mkfs.erofs that take a value, which may be a word of its own
_VALUED = ("-b", "-d", "-z", "-C", "-E", "-L", "-T", "-U", "-x")
_STOCK = "containerd"  # in NODES: what passes no signature
_VALUED_LONG = ("--chunksize", "--compress-hints", "--sort")


@dataclass
class _Settings:
    """What containerd has in effect: all files merged, the later ones over the former."""

    files: list[str] = field(default_factory=list)
    merged: dict[str, Any] = field(default_factory=dict)

    def read(self, system: System, path: str) -> None:
        """Take in the file and what it imports; UnseenError or _MalformedError if one fails."""
        pending = [path, *_matching(system, _DROP_INS)] if path == _PATHS[0] else [path]
        while pending:
            path = pending.pop(0)
            if path in self.files:
                continue
            if len(self.files) == _MAX_FILES:
                raise UnseenError(f"{path} is beyond {_MAX_FILES} files")
            text = system.text(path)
            if text is None:
                continue
            try:
                found = tomllib.loads(text)
            except (tomllib.TOMLDecodeError, RecursionError) as error:
                raise _MalformedError(f"{path} is not TOML: {error}") from None
            self.files.append(path)
            _merge(self.merged, found)
            imports = found.get("imports", [])
            for name in imports if isinstance(imports, list) else []:
                below = posixpath.join(posixpath.dirname(path), str(name))
                pending += _matching(system, below)


class _MalformedError(Exception):
    """A file that containerd cannot read either."""


def _matching(system: System, pattern: str) -> list[str]:
    """Return the paths that match, in containerd's order; wildcards are in the last part."""
    directory, name = posixpath.split(posixpath.normpath(pattern))
    if any(char in directory for char in "*?["):
        raise UnseenError(f"imports = {pattern}: wildcards in directories are not followed")
    if not any(char in name for char in "*?["):
        return [posixpath.join(directory, name)]
    names = system.names(directory) or ()
    return [posixpath.join(directory, one) for one in names if fnmatch.fnmatchcase(one, name)]


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    todo = [(into, other)]
    while todo:
        target, source = todo.pop()
        for name, value in source.items():
            if isinstance(value, dict) and isinstance(target.get(name), dict):
                todo.append((target[name], value))
            else:
                target[name] = value


def node_of_containerd(system: System) -> Node | None:
    """The kind of node that containerd's settings make; None without the EROFS snapshotter.

    Raises:
        UnseenError: they cannot be read, or containerd could not.
    """
    plugins = _plugins(system)
    if _SNAPSHOTTER not in plugins and _DIFFER not in plugins:
        return None
    return _kind(plugins)


def recipe_of_containerd(system: System) -> Recipe:
    """The recipe by which the differ, as it is set up, makes images.

    Raises:
        UnseenError: it cannot be told, or is none.
    """
    from dmsign_fast.erofs.recipe import Recipe

    row, _, missing, more = _differ_options(_table(_plugins(system), _DIFFER))
    if missing or more:
        raise UnseenError("the differ's mkfs_options are those of no recipe")
    try:
        return Recipe.parse(f"{row.name}@{mkfs_version(system)}")
    except ParameterError as error:
        raise UnseenError(str(error)) from None


def _plugins(system: System) -> dict[str, Any]:
    try:
        return _table(_read(system).merged, "plugins")
    except _MalformedError as error:
        raise UnseenError(str(error)) from None


def _read(system: System) -> _Settings:
    settings = _Settings()
    for path in _PATHS:
        if not settings.files:
            settings.read(system, path)
    return settings


def _kind(plugins: dict[str, Any]) -> Node:
    """The kind whose setting the snapshotter or differ has, otherwise stock containerd."""
    settings = (_table(plugins, _SNAPSHOTTER), _table(plugins, _DIFFER))
    for node in NODES:
        if node.setting and any(one.get(node.setting) is True for one in settings):
            return node
    return node_of(_STOCK)


def check_containerd(system: System) -> Iterator[Finding]:
    """Check that containerd opens signed layers by dm-verity, and name how to sign for it."""
    try:
        settings = _read(system)
    except UnseenError as error:
        yield Finding("containerd", State.UNKNOWN, str(error), "run as root")
        return
    except _MalformedError as error:
        yield Finding("containerd", State.PROBLEM, str(error), "correct it")
        return
    if not settings.files:
        yield Finding("containerd", State.NOTE, f"no {_PATHS[0]}")
        return
    plugins = _table(settings.merged, "plugins")
    named = [str(found) for at in _CRI if (found := _table(plugins, *at).get("snapshotter"))]
    runtimes = {
        (name, str(found))
        for at in _RUNTIMES
        for name, runtime in _table(plugins, *at).items()
        if isinstance(runtime, dict) and (found := runtime.get("snapshotter"))
    }
    by_erofs = sorted(name for name, snapshotter in runtimes if snapshotter == "erofs")
    by_others = sorted(f"{other} for {name}" for name, other in runtimes if other != "erofs")
    read = f"read {', '.join(settings.files)}"
    if not ({"erofs"} & set(named) or by_erofs or _SNAPSHOTTER in plugins or _DIFFER in plugins):
        evidence = f"the snapshotter is {', '.join(named) or 'that of the platform'}; {read}"
        advice = "layers go through dm-verity with the snapshotter and the differ erofs"
        yield Finding("containerd", State.NOTE, evidence, advice)
        return
    if unread := [one for one in _PATHS if one not in settings.files and system.text(one)]:
        evidence = f"{read}; another containerd may have {', '.join(unread)}"
        yield Finding("containerd files", State.UNKNOWN, evidence, "remove what is not in use")
    else:
        yield Finding("containerd files", State.NOTE, read)
    node = _kind(plugins)
    yield _check_snapshotter(named, by_erofs, by_others)
    yield from _check_erofs(plugins, node)
    yield _check_signatures(node)
    if node.recipe is None:
        yield from _check_recipe(_table(plugins, _DIFFER), system)


def _check_signatures(node: Node) -> Finding:
    """Check that containerd gives the kernel signatures, and say of which form."""
    name = "containerd signatures"
    if node.form is None:
        settings = " or ".join(f"{one.setting} (a node {one.name})" for one in NODES if one.setting)
        return Finding(
            name,
            State.PROBLEM,
            "this containerd passes no signature to the kernel: where signatures are required, it "
            "mounts no layer",
            f"use a containerd that reads them, by {settings}; or open the layers without it, by "
            "dmsign-fast mount or export",
        )
    recipe = f" --recipe {node.recipe}" if node.recipe else ""
    evidence = (
        f"{node.setting} = true, a node {node.name}: sign with --artifact {node.form}{recipe}"
    )
    return Finding(name, State.OK, evidence)


def _check_snapshotter(named: list[str], by_erofs: list[str], by_others: list[str]) -> Finding:
    """Check that CRI has the snapshotter erofs, for all runtimes or for some."""
    name = "containerd snapshotter"
    others = [one for one in named if one != "erofs"]
    if "erofs" in named and (others or by_others):
        evidence = f"erofs for CRI, but {', '.join([*others, *by_others])}, past dm-verity"
        return Finding(name, State.PROBLEM, evidence, "leave the other snapshotters out")
    if "erofs" in named:
        return Finding(name, State.OK, "erofs, for CRI")
    default = ", ".join(named) or "the platform's own"
    if by_erofs:
        evidence = f"erofs for the runtimes {', '.join(by_erofs)} alone; {default} for others"
        return Finding(name, State.NOTE, evidence)
    advice = 'set snapshotter = "erofs" for CRI, or use ctr run --snapshotter erofs'
    return Finding(name, State.NOTE, f"for CRI {default}, though erofs is set up", advice)


def _check_erofs(plugins: dict[str, Any], node: Node) -> Iterator[Finding]:
    order = _table(plugins, _DIFF_SERVICE).get("default", ["walking"])
    if isinstance(order, list) and order[:1] == ["erofs"]:
        yield Finding("containerd differ", State.OK, f"default = {order}")
    else:
        advice = f'[plugins."{_DIFF_SERVICE}"] default = ["erofs", "walking"]'
        yield Finding("containerd differ", State.PROBLEM, f"default = {order}", advice)
    enabled = _table(plugins, _DIFFER).get("enable_dmverity", False)
    if enabled is True or node.recipe:  # of a recipe of its own it takes hash trees too
        yield Finding(
            "containerd enable_dmverity",
            State.OK,
            "true" if enabled is True else f"by {node.setting}",
        )
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


def _differ_options(differ: dict[str, Any]) -> tuple[Recipe, list[str], list[str], list[str]]:
    """The recipe that is meant, the options that it wants, those that lack, and further ones."""
    from dmsign_fast.erofs.recipe import RECIPES

    tar_index = differ.get("enable_tar_index") is True
    row = next(recipe for recipe in RECIPES if recipe.enable_tar_index is tar_index)
    wanted = [one for one in row.mkfs_arguments if one not in _GIVEN]
    options = differ.get("mkfs_options", [])
    words = [str(one) for one in options] if isinstance(options, list) else [str(options)]
    given = _joined(words)
    missing = [one for one in wanted if one not in given]
    return row, wanted, missing, [one for one in given if one not in (*wanted, *_GIVEN)]


def _check_recipe(differ: dict[str, Any], system: System) -> Iterator[Finding]:
    row, wanted, missing, more = _differ_options(differ)
    try:
        recipe = f"{row.name}@{mkfs_version(system)}"
    except UnseenError:
        recipe = f"{row.name}@ the version of mkfs.erofs"
    if missing:
        advice = f'[plugins."{_DIFFER}"] mkfs_options = {wanted}'.replace("'", '"')
        evidence = f"mkfs_options lack {' '.join(missing)}: no root hash is as signed"
        yield Finding("recipe", State.PROBLEM, evidence, advice)
    elif more:
        evidence = f"mkfs_options {' '.join(more)} are in no recipe"
        yield Finding("recipe", State.NOTE, evidence, f"sign with --recipe {recipe} and compare")
    else:
        yield Finding("recipe", State.OK, f"sign with --recipe {recipe}")


def _joined(words: list[str]) -> list[str]:
    """Return the options, each with its value in one word: ``-T0``, ``--sort=none``."""
    joined: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in _VALUED:
            joined.append(word + next(rest, ""))
        elif word in _VALUED_LONG:
            joined.append(f"{word}={next(rest, '')}")
        else:
            joined.append(word)
    return joined


def _table(value: Any, *names: str) -> dict[str, Any]:
    """Return the table in a table, empty if there is none or something else."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
