"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast import __version__
from dmsign_fast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AGENT",
    "add_trust",
    "add_user_metadata",
    "by_name",
    "name_and_value",
    "positive_seconds",
    "section",
    "unicode_text",
]

AGENT = f"dmsign-fast/{__version__}"  # who says that he made a signature


def section(
    parser: argparse.ArgumentParser, title: str, about: str | None = None
) -> argparse._ArgumentGroup:
    """The section of that title in the help, made where there is none."""
    known = {group.title: group for group in parser._action_groups}
    return known.get(title) or parser.add_argument_group(title, about)


def unicode_text(text: str) -> str:
    """What goes into documents; an error of argparse for bytes that are no text here."""
    try:
        text.encode()
    except UnicodeEncodeError:
        message = "bytes that are no text in this locale: use UTF-8 (LC_ALL=C.UTF-8)"
        raise argparse.ArgumentTypeError(message) from None
    return text


def name_and_value(text: str) -> tuple[str, str]:
    """``NAME=VALUE``; an error of argparse otherwise."""
    name, equals, value = unicode_text(text).partition("=")
    if not equals or not name:
        message = f"{text!r} is not NAME=VALUE"
        raise argparse.ArgumentTypeError(message)
    return name, value


def by_name(pairs: list[tuple[str, str]], option: str) -> dict[str, str]:
    """The values of a repeated ``NAME=VALUE`` option; ParameterError for a name given twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ParameterError(f"{option} gives a value to the same name twice")
    return values


def positive_seconds(text: str) -> float:
    """A time in seconds, more than none; an error of argparse otherwise."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        message = f"{text!r} is not a number of seconds"
        raise argparse.ArgumentTypeError(message)
    return seconds


def add_trust(add: Callable[..., object], about: str) -> None:
    """Add ``--trust``, certificates to trust, which also has the name ``--cert`` from before."""
    known: dict[str, Any] = {"type": Path, "action": "append", "metavar": "FILE"}
    add("--trust", default=[], help=f"{about}; may be repeated", **known)
    add("--cert", dest="trust", default=argparse.SUPPRESS, help=argparse.SUPPRESS, **known)


def add_user_metadata(add: Callable[..., object], about: str) -> None:
    """Add ``--user-metadata``, which may be repeated."""
    add(
        "--user-metadata",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"{about}; may be repeated",
    )
