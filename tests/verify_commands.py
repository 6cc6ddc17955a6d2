"""Running ``verify``, ``inspect`` and ``list`` on a layout."""

import json

from helpers import cli

COMMANDS = ("verify", "inspect", "list")


def run(command, store, *options, tag="v1"):
    done = cli(command, "--oci-layout", f"{store.path}:{tag}", *options)
    assert "Traceback" not in done.err
    assert done.exit_code != 70, done.err
    return done


def as_json(done):
    def refuse(name):
        raise AssertionError(name)

    return json.loads(done.out, parse_constant=refuse)


def assert_fails(done, exit_code, *words):
    assert done.exit_code == exit_code, done
    last = done.err.splitlines()[-1]
    assert last.startswith("dmsign-fast")
    for word in words:
        assert word in last
