"""What all tests share: bounded hypothesis, and every SHA-256 that runs here."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from dmsign_fast import _core

settings.register_profile(
    "bounded",
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("bounded")

# Shells let what they start in the background ignore SIGINT, and what that starts inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=[None, *_core.SHA256.usable], ids=lambda name: name or "default")
def implementation(request):
    """Each SHA-256 implementation of this processor in turn, and the choice among them."""
    with _core.SHA256.using(request.param):
        yield request.param


def pytest_configure(config):
    config.addinivalue_line("markers", "timeout(seconds): of pytest-timeout")


def pytest_collection_modifyitems(items):
    """The first test of the virtual machine waits for all that it does."""
    for item in items:
        if item.nodeid.startswith("tests/kernel/"):
            item.add_marker(pytest.mark.timeout(2400))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """All tests of the virtual machine in one worker, so that no other waits for it."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "kernel" if nodeid.startswith("tests/kernel/") else nodeid

    return Scheduling(config, log)
