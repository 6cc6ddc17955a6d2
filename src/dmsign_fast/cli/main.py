"""From arguments to an exit status; the only place where errors become text."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, NoReturn

from dmsign_fast import __version__
from dmsign_fast.cli.group import Parser, add_commands
from dmsign_fast.cli.output import print_json, print_line
from dmsign_fast.errors import DmsignError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_EXIT_CODES = """\
exit status:
  0    done, or verified
  1    verified in full, and it is not what was hashed or signed
  2    usage: an option or argument outside its limits
  3    input that is malformed: a superblock, a key, a certificate, a signature
  4    a file or device that cannot be read or written, or too little memory
  5    a key, certificate or passphrase that cannot sign
  6    a registry that cannot be reached or refuses
  7    nothing to verify: there is no signature
  70   a bug in dmsign-fast
  130  interrupted; 143 terminated
"""
_COMMANDS = (
    *("sign", "prepare", "attach", "verify", "inspect", "list", "doctor"),
    *("key", "cert", "policy", "plugin", "layer", "verity"),
)
_INTERNAL = 70
_INTERRUPTED = 128 + signal.SIGINT


def _terminated(number: int, _: object) -> NoReturn:
    # as an exception, so that what is half-written goes
    raise SystemExit(128 + number)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dmsign-fast",
        description="container images and dm-verity devices, signed for the Linux kernel",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument(
        "--verbose", action="store_true", help="with --version: what runs here, and which SHA-256"
    )
    commands = parser.add_subparsers(
        title="commands",
        metavar="COMMAND",
        parser_class=Parser,
        prog=parser.prog,  # given, it need not be made from a help text
    )
    words = [word for word in argv if not word.startswith("-")]
    add_commands(commands, "dmsign_fast.cli", _COMMANDS, words)
    return parser


def _print_version(*, verbose: bool) -> None:
    print(f"dmsign-fast {__version__}")
    if not verbose:
        return
    import platform
    from importlib.metadata import version

    from dmsign_fast import _core

    print(f"SHA-256: {_core.implementation()}")
    for name, supported in _core.implementations().items():
        print(f"  {name}: {'runs here' if supported else 'needs another processor'}")
    print(f"threads: {_core.thread_count(None)}")
    print(f"Python {platform.python_version()} on {platform.machine()}")
    for package in ("asn1crypto", "cffi", "cryptography", "numpy"):
        print(f"{package} {version(package)}")


def _fail(args: argparse.Namespace, kind: str, message: str, exit_code: int) -> int:
    print_line(f"dmsign-fast: error: {message}", sys.stderr)
    if getattr(args, "debug", False):
        traceback.print_exc()
    if getattr(args, "output", "text") == "json" and not getattr(args, "printed", False):
        print_json({"error": {"type": kind, "message": message, "exit_code": exit_code}})
    return exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names need not be text
    # by cryptography, of the number 0 that one in 200 of notation's test certificates has
    warnings.filterwarnings("ignore", "Parsed a serial number")
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(argv)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        if args.version:
            _print_version(verbose=args.verbose)
            return 0
        if not hasattr(args, "run"):
            parser.error("which command? see --help")
        status = int(args.run(args))
        if sys.stdout:
            sys.stdout.flush()
    except DmsignError as error:
        return _fail(args, type(error).__name__, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(args, "Interrupted", "interrupted, nothing was written", _INTERRUPTED)
    except MemoryError:
        return _fail(args, "StorageError", "out of memory: use fewer --threads", 4)
    except OSError as error:
        # standard output, since files have their own errors; Python is not to try again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(args, "StorageError", f"cannot write the output: {error.strerror}", 4)
    except Exception as error:  # noqa: BLE001
        message = f"a bug, please report it with the output of --debug: {error!r}"
        return _fail(args, "InternalError", message, _INTERNAL)
    return status
