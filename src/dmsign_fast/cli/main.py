"""From arguments to an exit status; the only place where errors become text."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import os
import signal
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dmsign_fast.cli.group import Parser, UsageError, add_commands, add_short_options
from dmsign_fast.cli.output import SHOWN, logging_to_stderr, print_json, print_line
from dmsign_fast.errors import DmsignError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main", "parser_of", "program"]

_ABOUT = """\
Container images and dm-verity devices, signed for the Linux kernel.

A node makes a read-only EROFS file system of each layer of an image. dm-verity, a part of Linux,
hashes it as a tree, whose top is the root hash; the kernel can refuse a device unless a trusted key
has signed its root hash. dmsign-fast computes root hashes, signs them together with the image, and
keeps the signatures beside it, in its registry or OCI layout, as artifacts that refer to it.
"""
_EXAMPLES = """\
examples:
  dmsign-fast sign registry.example/app:1.0 --key key.pem --cert chain.pem
  dmsign-fast verify registry.example/app:1.0 --trust root.pem
  dmsign-fast verity sign image.erofs --key key.pem --cert chain.pem
  dmsign-fast COMMAND --help                                   options and examples of a command
"""
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
  8    fleet: some images are not signed; 9: none is
  70   a bug in dmsign-fast
  130  interrupted; 143 terminated; 141 nobody reads the output any more
"""
COMMANDS = (
    *("sign", "prepare", "attach", "verify", "inspect", "list"),
    *("export", "mount", "umount", "doctor", "benchmark"),
    *("fleet", "key", "cert", "policy", "plugin", "layer", "verity", "ipe"),
    *("login", "logout"),
    *("completion", "version"),
)
_JSON = (("--output", "json"), ("-o", "json"))
_INTERNAL = 70
_INTERRUPTED = 128 + signal.SIGINT
_NOBODY_READS = 128 + signal.SIGPIPE


def _terminated(number: int, _: object) -> NoReturn:
    # as an exception, so that what is half-written goes
    raise SystemExit(128 + number)


def parser_of(words: Sequence[str]) -> Parser:
    """Return the parser with the command that ``words`` begin with, or else with all commands."""
    parser = Parser(
        prog="dmsign-fast",
        description=_ABOUT,
        epilog=_EXAMPLES + _EXIT_CODES,
    )
    parser.add_argument(
        "-V",
        "--version",
        action="store_true",
        help="print the version, as the command version does",
    )
    add_short_options(parser)
    commands = parser.add_subparsers(
        title="commands",
        metavar="COMMAND",
        parser_class=Parser,
        prog=parser.prog,  # given, it need not be made from a help text
    )
    add_commands(commands, "dmsign_fast.cli", COMMANDS, words)
    return parser


def _parse(argv: Sequence[str], args: argparse.Namespace) -> None:
    words = [word for word in argv if not word.startswith("-")]
    options = [word for word in argv if word in ("-V", "--version")]
    if options and argv[0].startswith("-"):
        argv = ["version", *(word for word in argv if word not in options)]
        words = argv[:1]
    parser_of(words).parse_args(argv, args)


def _asks_for_json(argv: Sequence[str]) -> bool:
    """Whether a command line that cannot be parsed asks for JSON."""
    return "--output=json" in argv or any(pair in _JSON for pair in pairwise(argv))


def _fail(args: argparse.Namespace, kind: str, message: str, exit_code: int) -> int:
    print_line(f"{args.command}: error: {message}", sys.stderr)
    if args.debug:
        import traceback

        traceback.print_exc()
    if args.output == "json" and not args.printed:
        print_json({"error": {"type": kind, "message": message, "exit_code": exit_code}})
    return exit_code


def _run(argv: Sequence[str]) -> int:
    output = "json" if _asks_for_json(argv) else "text"
    args = argparse.Namespace(command="dmsign-fast", output=output, debug=False, printed=False)
    try:
        _parse(argv, args)
        with contextlib.ExitStack() as stack:
            if args.verbose:
                stack.enter_context(logging_to_stderr())
            if sys.stdout is None or (args.quiet and args.output == "text"):  # None: closed
                nowhere = stack.enter_context(Path(os.devnull).open("w", errors=SHOWN))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            return int(args.run(args))
    except UsageError as error:
        print_line(error.usage, sys.stderr)
        args.command = error.command
        return _fail(args, "ParameterError", str(error), error.exit_code)
    except DmsignError as error:
        return _fail(args, type(error).__name__, str(error), error.exit_code)
    except KeyboardInterrupt:
        message = getattr(args, "interrupted", None) or "interrupted, nothing was written"
        return _fail(args, "Interrupted", message, _INTERRUPTED)
    except MemoryError:
        return _fail(args, "StorageError", "out of memory: use fewer --threads", 4)
    except OSError:
        raise  # of the output, since files have their own errors
    except Exception as error:  # noqa: BLE001
        message = f"a bug, please report it with the output of --debug: {error!r}"
        return _fail(args, "InternalError", message, _INTERNAL)


def _drop_output() -> None:
    """Let go of output that cannot be written, which Python would try again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SHOWN)
    # by cryptography, of the number 0 that one in 200 of notation's test certificates has
    warnings.filterwarnings("ignore", "Parsed a serial number")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:  # after --help and a signal too
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return _NOBODY_READS
    except OSError as error:
        _drop_output()
        print_line(f"dmsign-fast: error: cannot write the output: {error.strerror}", sys.stderr)
        return 4


def program() -> NoReturn:
    """Run ``dmsign-fast`` and end the process.

    The system frees its memory at once. Python would first free every object by itself, which is a
    tenth of a short command.
    """
    status = main()
    atexit._run_exitfuncs()  # temporary files, processes of a pool
    os._exit(status)
