"""What all messages have in common: words of people, not of Python and its libraries."""

import ast
from pathlib import Path

import pytest

import dmsign_fast
from dmsign_fast.bounded_http import reason_of
from dmsign_fast.errors import ProgramError
from dmsign_fast.processes import run_program
from dmsign_fast.signing.file_kinds import said_by_parser

HOME = Path(dmsign_fast.__file__).parent
# the reasons of these are no OSError alone
OTHERS = {"fleet/engine.py", "node/kernel.py"}


def handlers():
    """Each block that handles an OSError, by file."""
    for path in sorted(HOME.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            caught = isinstance(node, ast.ExceptHandler) and node.name and ast.unparse(node.type)
            if caught and "OSError" in caught:
                yield path.relative_to(HOME).as_posix(), node


def test_no_message_has_an_oserror_as_python_writes_it():
    """``[Errno 2] No such file or directory: 'x'``; its strerror is for people."""
    found = list(handlers())
    assert len(found) > 20
    for name, handler in found:
        values = [one.value for one in ast.walk(handler) if isinstance(one, ast.FormattedValue)]
        bare = [one.id for one in values if isinstance(one, ast.Name) and one.id == handler.name]
        assert not bare or name in OTHERS, f"{name}, line {handler.lineno}"


@pytest.mark.parametrize("words", [("/nothing/here",), ("sh\0",)])
def test_a_program_that_cannot_be_run_has_no_number(words):
    with pytest.raises(ProgramError, match="cannot run") as refused:
        run_program(list(words), timeout=5, environment={})
    assert "Errno" not in str(refused.value)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (
            OSError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
            "wrong version",
        ),
        (
            Exception(
                "Connection broken", Exception("IncompleteRead(3 bytes read, 4 more expected)")
            ),
            "3 bytes came and 4 more were to come",
        ),
    ],
)
def test_reasons_of_connections(raised, said):
    text = reason_of(raised)
    assert said in text
    for never in ("Errno", "_ssl", "[SSL", "IncompleteRead"):
        assert never not in text


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("error parsing asn1 value: ParseError { kind: ShortData }", "its DER is malformed"),
        ("Unable to load PEM file. See https://x", "its DER is malformed"),
        ("", "its DER is malformed"),
        ("Duplicate extension found", "Duplicate extension found"),
    ],
)
def test_reasons_of_parsers(raised, said):
    assert said_by_parser(ValueError(raised)) == said
