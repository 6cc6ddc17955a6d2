"""Registries of others on the loopback: docker-registry, and olareg where Go is found.

docker-registry 2.8 has no Referrers API, olareg has. olareg is built once, in the version and with
the modules that ``olareg/go.sum`` pins, and kept in .cache; without Go nothing is tried with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import program, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "olareg"
_MODULE = Path(__file__).with_name("olareg")
_GO = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")


def _go_version() -> tuple[int, ...]:
    if _GO is None:
        return ()
    said = subprocess.run([_GO, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return tuple(int(part) for part in re.findall(r"\d+", said.stdout))


REAL_REGISTRIES = ("docker-registry", *(("olareg",) if _go_version() >= (1, 21) else ()))


@contextlib.contextmanager
def docker_registry(home: Path, more: str = "", http: str = "") -> Iterator[str]:
    """Run the docker-registry of this machine; HOST:PORT.

    ``more`` is YAML of its configuration, ``http`` is put into its member of that name.
    """
    config, log = home / "config.yml", home / "log"
    config.write_text(
        "version: 0.1\n"
        "log: {accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {home}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:0'{http}}}\n{more}"
    )

    def listening() -> str | None:
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())
        return found and found[1]

    with _running([program("docker-registry"), "serve", config], log, listening) as host:
        yield host


@contextlib.contextmanager
def olareg(home: Path) -> Iterator[str]:
    """Build olareg where that was not done yet, and run it; HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as free:  # olareg does not tell which it takes
        port = free.getsockname()[1]

    def listening() -> str | None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return f"127.0.0.1:{port}"
        return None

    command = [_built(), "serve", "--addr", "127.0.0.1", "--port", port, "--dir", home / "data"]
    command += ["--api-delete"]
    with _running(command, home / "log", listening) as host:
        yield host


@contextlib.contextmanager
def _running(command: list, log: Path, listening: Callable[[], str | None]) -> Iterator[str]:
    words = [str(word) for word in command]
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, stdin=subprocess.DEVNULL)

    def ready() -> str | None:
        assert process.poll() is None, log.read_text()
        return listening()

    try:
        wait_until(ready, f"the start of {words[0]}")
        yield ready()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _built() -> Path:
    version = re.search(r"olareg/olareg (\S+)", (_MODULE / "go.mod").read_text())[1]
    built = _CACHE / f"olareg-{version}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / ".lock").open("w") as lock, contextlib.ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            scratch = stack.enter_context(tempfile.TemporaryDirectory(dir=_CACHE))
            own = {"GOPATH": f"{scratch}/path", "GOCACHE": f"{scratch}/cache", "GOFLAGS": ""}
            words = ["-modcacherw", "-trimpath", "-buildvcs=false", "-o", f"{scratch}/olareg"]
            done = subprocess.run(
                [_GO, "build", *words, "github.com/olareg/olareg/cmd/olareg"],
                cwd=_MODULE,
                env={**os.environ, **own},
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
            assert done.returncode == 0, (
                f"olareg {version} cannot be built by {_GO}:\n{done.stderr}\n"
                f"put the program into {built}"
            )
            Path(scratch, "olareg").rename(built)
    return built
