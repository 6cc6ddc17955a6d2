"""README.md and docs/*.md: every command line is one that dmsign-fast takes."""

import argparse
import re
import shlex

import pytest
from pages import COMMANDS, HOME, PAGES, shortened, with_values, words_of, words_of_synopsis

from dmsign_fast.cli.group import UsageError
from dmsign_fast.cli.main import parser_of

OURS = [command for command in COMMANDS if "dmsign-fast " in command.text]
DIGEST = "5c" * 32
VALUES = {"ROOT_HASH": DIGEST, "LAYER HASH": f"LAYER {DIGEST}"}


def groups_of(parser):
    return [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]


def parsers(parser):
    yield parser
    for group in groups_of(parser):
        for command in group.choices.values():
            yield from parsers(command)


def parser_at(words):
    """The parser of the command that the words begin with; None if they begin with none."""
    parser = parser_of([word for word in words if not word.startswith("-")])
    for word in words:
        groups = groups_of(parser)
        if not groups or word.startswith("-"):
            break
        if word not in groups[0].choices:
            return None
        parser = groups[0].choices[word]
    return parser


def refusal(words):
    """Why a command line cannot be parsed, or None."""
    try:
        parser_of([word for word in words if not word.startswith("-")]).parse_args(words)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("page", sorted({command.page for command in OURS}))
def test_command_lines_are_taken(page):
    bad = {}
    for command in (one for one in OURS if one.page == page):
        text = with_values(command.text, VALUES)
        if command.synopsis:
            words, options = words_of_synopsis(text)
            parser = parser_at(words)
            unknown = options - parser._option_string_actions.keys()
            bad[str(command)] = refusal(words) or ", ".join(unknown) or None
        else:
            calls = words_of(text)
            assert calls
            bad |= {f"{command}: {words}": refusal(words) for words in calls}
    assert {line: why for line, why in bad.items() if why} == {}


def test_all_command_lines_are_seen():
    assert len(OURS) > 100
    seen = "\n".join(f"{command.page} {command.text}" for command in OURS)
    for page, text in PAGES.items():
        for line in re.findall(r"^(?: {4}|\$ )dmsign-fast (\S+ \S+)", text, re.MULTILINE):
            assert f"{page} dmsign-fast {line}" in seen


SPANS = {
    page: re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for page, text in PAGES.items()
}
OTHERS = {  # options of other programs that the pages name
    "ctr": {"--dmverity", "--mkfs-options"},
    "mkfs.erofs": {"--mkfs-time", "--sort"},
    "p11tool": {"--list-privkeys"},
    "systemd-dissect": {"--image-policy", "--mount"},
    "valgrind": {"--tool", "--cache-sim"},
}


KNOWN = {option for one in parsers(parser_of(())) for option in one._option_string_actions}
for path in HOME.glob("bench/*.py"):
    KNOWN |= set(re.findall(r'"(--[a-z-]+)"', path.read_text()))


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_text_are_ours_or_of_a_program_beside_them(page):
    known = KNOWN.union(*OTHERS.values())
    unknown = set()
    for span in SPANS[page]:
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", span))
        if re.match("dmsign-fast (?!proof 1)[a-z]", span):  # that one begins a file
            words = shlex.split(span.split(" ", 1)[1])
            parser = parser_at(words)
            assert parser is not None, span
            unknown |= options - parser._option_string_actions.keys()
        elif not re.match(r"(veritysetup|notation|openssl) ", span):
            unknown |= options - known
    assert unknown == set()


def examples(parser):
    """The command lines of a help's examples."""
    text = re.sub(r"\\\n\s+", "", parser.epilog or "")
    for line in re.findall(r"^  (.*\bdmsign-fast .*)$", text, re.MULTILINE):
        yield from words_of(with_values(shortened(line), VALUES))


def test_examples_of_every_help_are_taken():
    words = {tuple(call) for parser in parsers(parser_of(())) for call in examples(parser)}
    words -= {("COMMAND", "--help")}
    words = {("version", *call[1:]) if call[0] == "--version" else call for call in words}
    assert {call: why for call in words if (why := refusal(list(call)))} == {}
    assert len(words) > 100
