"""A finding about a node, as a frozen value, and the summary of many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "State", "overall"]


class State(StrEnum):
    """What a finding means for enforcement."""

    OK = "ok"
    PROBLEM = "problem"
    """The node cannot enforce signatures because of this."""
    UNKNOWN = "unknown"
    """It could not be seen, and it matters."""
    NOTE = "note"
    """Worth knowing; it decides nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of a setting, keyring or program of the node.

    Attributes:
        name: such as ``CONFIG_DM_VERITY``.
        evidence: the value and the file or program that it is from.
        advice: what to do; empty if there is nothing to do.
    """

    name: str
    state: State
    evidence: str
    advice: str = ""


def overall(findings: Iterable[Finding]) -> State:
    """Return the worst state: problem, then unknown, then ok. Notes do not count."""
    states = {finding.state for finding in findings}
    return next((one for one in (State.PROBLEM, State.UNKNOWN) if one in states), State.OK)
