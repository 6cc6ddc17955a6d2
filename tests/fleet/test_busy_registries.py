"""A registry, or a worker, that asks for a longer pause than anybody has."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from dmsign_fast.fleet import hashing
from dmsign_fast.fleet.engine import Engine
from dmsign_fast.fleet.hashing import Hashing, Limits
from dmsign_fast.fleet.task import LayerOutcome, LayerTask

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize("busy", [math.inf, math.nan, -1.0, 1e9, 601.0])
def test_the_layer_fails_and_nothing_waits(busy, monkeypatch):
    asked = []

    def run(task):
        asked.append(task)
        return LayerOutcome(DIGEST, DIGEST, failure="too many requests", busy=busy)

    monkeypatch.setattr(hashing, "run_task", run)
    task = LayerTask(DIGEST, 1, DIGEST, "", ("registry.example/app",), ())
    with ThreadPoolExecutor(1) as pool:
        work = Hashing(lambda: Engine(pool, 1, "threads"), [(7, task)], Limits(patience=600))
        done = work.take() or work.take()
        assert not work, "it waits"
    assert [(key, one.failure) for key, one in done] == [(7, "too many requests")]
    assert len(asked) == 1
