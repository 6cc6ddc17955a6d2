"""Programs, images and oracles that several tests use."""

import contextlib
import fcntl
import hashlib
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

from dmsign_fast.cli import main

DMSIGN = (
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'dmsign-fast'\nfrom dmsign_fast.cli import program; program()",
)
PACKAGES = {
    "veritysetup": "cryptsetup-bin",
    "openssl": "openssl",
    "setpriv": "util-linux",
    "losetup": "mount",
    "unshare": "util-linux",
    "mount": "mount",
    "bash": "bash",
    "cat": "coreutils",
    "gzip": "gzip",
    "zstd": "zstd",
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "umoci": "umoci",
    "softhsm2-util": "softhsm2",
    "gcc": "gcc",
}


def program(name: str) -> str:
    """Return its path; fail the test, with the way to get it, where there is none."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        message = f"the program {name} is missing: apt install {PACKAGES[name]}"
        raise AssertionError(message)
    return path


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    exit_code: int
    out: str
    err: str

    def field(self, name: str) -> str:
        """Return the value of a line ``name: value``."""
        found = re.search(rf"^{name}:[ \t]*(.*)$", self.out, re.MULTILINE)
        assert found, f"no line {name}: in {self.out!r}"
        return found[1]

    @property
    def root_hash(self) -> bytes:
        return bytes.fromhex(self.field("Root hash"))


def run(*arguments: object, **options: object) -> Done:
    """Run a program to its end."""
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        timeout=60,
        check=False,
        **options,
    )
    out, err = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
    return Done(done.returncode, out, err)


def veritysetup(*arguments: object) -> Done:
    return run(program("veritysetup"), *arguments)


def dmsign(*arguments: object, environment: dict | None = None, **options: object) -> Done:
    """Run our command line in a process of its own."""
    return run(*DMSIGN, *arguments, env={**os.environ, **(environment or {})}, **options)


def cli(*arguments: object) -> Done:
    """Run our command line in this process, which takes a hundredth of the time."""
    handler = signal.getsignal(signal.SIGTERM)
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            exit_code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        exit_code = end.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    texts = (text.buffer.getvalue().decode(errors="surrogateescape") for text in (out, err))
    return Done(exit_code, *texts)


def noise(size: int, seed: int = 1) -> bytes:
    """Return bytes that look random and are the same every time."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def pieces_of(data: bytes, size: int) -> list[bytes]:
    """Return the data in pieces of ``size`` bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def zstd(data: bytes) -> bytes:
    """Return a frame of the data, as the program zstd makes it."""
    return subprocess.run(
        [program("zstd"), "-qc"], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@dataclass(frozen=True)
class Reference:
    """A hash tree by the letter of FORMATS section 1; levels are leaf level first."""

    root_hash: bytes
    levels: tuple[bytes, ...]

    @classmethod
    def of(cls, params, data: bytes) -> "Reference":
        name = {"blake2b-512": "blake2b"}.get(params.hash_algorithm, params.hash_algorithm)

        def digests(blocks: bytes, size: int) -> list[bytes]:
            found = []
            for at in range(0, len(blocks), size):
                block = blocks[at : at + size]
                salted = params.salt + block if params.hash_type else block + params.salt
                found.append(hashlib.new(name.replace("sha3-", "sha3_"), salted).digest())
            return found

        now = digests(data, params.data_block_size)
        digest = len(now[0])
        slot = digest
        while params.hash_type and slot & (slot - 1):
            slot += 1
        per_block = 1
        while 2 * per_block * digest <= params.hash_block_size:
            per_block *= 2
        levels = []
        while len(now) > 1:
            level = b""
            for at in range(0, len(now), per_block):
                slots = b"".join(one.ljust(slot, b"\0") for one in now[at : at + per_block])
                level += slots.ljust(params.hash_block_size, b"\0")
            levels.append(level)
            now = digests(level, params.hash_block_size)
        return cls(now[0], tuple(levels))


def wait_until(true, what: str, seconds: float = 30) -> None:
    """Wait for something that another process does; a limit, not an expectation."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            message = f"{what} did not happen in {seconds} s"
            raise AssertionError(message)
        time.sleep(0.002)


def has_read(process) -> bool:
    """Whether it has taken all that was written to its standard input, a pipe."""
    waiting = fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))
    return not int.from_bytes(waiting, sys.byteorder)


def has_written(process) -> bool:
    """Whether it has a file open for writing that has no name yet and holds something."""
    try:
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            status = entry.stat()
            if status.st_nlink == 0 and status.st_size >= 64 << 10:
                return True
    except FileNotFoundError:
        pass
    return process.poll() is not None


def limited(size: int) -> dict:
    """Run with files no larger than that: every write beyond it fails, as on a full disk."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))}


def on_a_small_disk(directory: Path, size: str, *command: object) -> Done:
    """Run a program with an empty tmpfs at ``directory``; it says at last what is in there."""
    script = (
        'mount -t tmpfs -o size="$0" none "$1" || exit 99; cd "$1"; shift; "$@"; status=$?; '
        "ls -A; exit $status"
    )
    unshare = () if os.geteuid() == 0 else ("--map-root-user",)
    bash = (program("bash"), "-c", script)
    return run(program("unshare"), *unshare, "--mount", *bash, size, directory, *command)


def flip(path: Path, offset: int, bits: int = 1) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([old ^ bits]))
