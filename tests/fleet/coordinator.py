"""A coordinator in a process of its own, to be killed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dmsign_fast.fleet.engine import Engine
from dmsign_fast.fleet.sign import sign_fleet
from dmsign_fast.fleet.state import FleetState
from dmsign_fast.signing.providers import KeyOptions, open_signer


def coordinate(path, references, key, chain, options):
    """Begin or resume a run, with threads as workers."""
    signer = open_signer(f"file:{key}", KeyOptions(certificates=Path(chain)))
    with ThreadPoolExecutor(2) as pool, FleetState(path) as state:
        sign_fleet(state, references, signer, options, Engine(pool, 2, "threads"), resume=True)
