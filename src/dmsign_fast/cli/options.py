"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse

from dmsign_fast import __version__
from dmsign_fast.errors import ParameterError

__all__ = ["AGENT", "by_name", "name_and_value"]

AGENT = f"dmsign-fast/{__version__}"  # who says that he made a signature


def name_and_value(text: str) -> tuple[str, str]:
    """``NAME=VALUE``; an error of argparse otherwise."""
    name, equals, value = text.partition("=")
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
