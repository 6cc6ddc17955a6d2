"""What is found out about a node: one frozen value each."""

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
    """One thing that was looked at.

    Attributes:
        name: of the thing, such as ``CONFIG_DM_VERITY``.
        evidence: what was read, and where.
        advice: what to do; empty if there is nothing to do.
    """

    name: str
    state: State
    evidence: str
    advice: str = ""


def overall(findings: Iterable[Finding]) -> State:
    """Return problem if there is one, else unknown if there is one, else ok."""
    states = {finding.state for finding in findings}
    return next((one for one in (State.PROBLEM, State.UNKNOWN) if one in states), State.OK)
