"""What every command has in common: usage errors, names and short names, quiet and verbose."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from container_images import push_image
from helpers import Done, cli, noise, program, run, veritysetup, write
from pki import make_leaf, make_root

from dmsign_fast import __version__
from dmsign_fast.cli.main import parser_of


def parsers(parser=None, words=()):
    """Every command's words and parser, without aliases."""
    parser = parser or parser_of(())
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        yield words, parser
    for group in groups:
        seen = set()
        for name, command in group.choices.items():
            if id(command) not in seen:
                seen.add(id(command))
                yield from parsers(command, (*words, name))


COMMANDS = {" ".join(words): parser for words, parser in parsers()}


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data", noise(8192))


def shown(parser):
    """The options that help shows: not those whose names are former ones."""
    known = parser._option_string_actions.items()
    return {name for name, action in known if action.help != argparse.SUPPRESS}


# usage


@pytest.mark.parametrize(
    ("words", "usage", "reason"),
    [
        (["verfy"], "dmsign-fast [OPTION...] COMMAND ...", "command verfy; did you mean verify"),
        (["verity", "fromat"], "dmsign-fast verity [OPTION...] COMMAND ...", "did you mean format"),
        (["qqqq"], "dmsign-fast [OPTION...] COMMAND ...", "unknown command qqqq; --help lists"),
        ([], "dmsign-fast [OPTION...] COMMAND ...", "which command? sign, prepare, attach"),
        (["key"], "dmsign-fast key [OPTION...] COMMAND ...", "which command? add, list"),
        (["verify"], "dmsign-fast verify [OPTION...] REF", "arguments are required: REF"),
        (["verify", "x", "y"], "dmsign-fast verify [OPTION...] REF", "too many: 'y'"),
        (["list", "x", "--platfrom", "y"], "dmsign-fast list [OPTION...] REF", "mean --platform?"),
        (["sign", "--key"], "dmsign-fast sign [OPTION...] REF", "--key: expected one argument"),
        (["--verb", "sign"], "dmsign-fast [OPTION...] COMMAND ...", "unknown option --verb"),
        (["--trust", "x", "list"], "dmsign-fast [OPTION...] COMMAND ...", "behind its name"),
        (
            ["layer", "convert", "x", "--bogus"],
            "dmsign-fast layer convert [OPTION...] LAYER",
            "unknown option --bogus",
        ),
    ],
)
def test_usage_is_one_line_and_the_reason_another(words, usage, reason):
    done = cli(*words)
    assert (done.exit_code, done.out) == (2, "")
    first, second = done.err.splitlines()
    assert first == f"usage: {usage}"
    assert second.startswith(f"{usage.partition(' [')[0]}: error: ")
    assert reason in second


@pytest.mark.parametrize("asked", [["--output", "json"], ["--output=json"], ["-o", "json"]])
@pytest.mark.parametrize("words", [["verfy"], ["verify", "--nothing"], ["key", "add"], ["key"]])
def test_usage_errors_are_json_too(words, asked):
    done = cli(*words, *asked)
    error = json.loads(done.out)["error"]
    assert error["exit_code"] == done.exit_code == 2
    assert done.err.endswith(f": error: {error['message']}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_names_of_options_are_not_abbreviated(name):
    for option in COMMANDS[name]._option_string_actions:
        if len(option) > 4 and option[:-1] not in COMMANDS[name]._option_string_actions:
            done = cli(*name.split(), option[:-1])
            assert done.exit_code == 2
            assert f"error: unknown option {option[:-1]};" in done.err


@pytest.mark.parametrize("given", [["--password", "S3cret"], ["--password=S3cret"], ["-pS3cret"]])
@pytest.mark.parametrize("output", ["text", "json"])
def test_a_password_on_the_command_line_is_refused_and_not_repeated(output, given):
    done = cli("sign", "localhost:1/a:b", *given, "--output", output)
    assert done.exit_code == 2
    assert "unknown option -" in done.err
    assert "S3cret" not in done.out + done.err


# names


def test_short_options_of_notation():
    wanted = {
        "--key": "-k",
        "--user-metadata": "-m",
        "--expiry": "-e",
        "--username": "-u",
        "--debug": "-d",
        "--verbose": "-v",
    }
    for name, parser in COMMANDS.items():
        for option, short in wanted.items():
            if option in parser._option_string_actions:
                assert parser._option_string_actions[short].dest == option[2:].replace("-", "_")
        assert "-p" not in parser._option_string_actions, name
    assert {"-k", "-m", "-e", "-u", "-d", "-v", "-o"} <= set(
        COMMANDS["sign"]._option_string_actions
    )


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        (["ls"], ["list"]),
        (["certificate", "ls"], ["cert", "list"]),
        (["certificate", "generate-test"], ["cert", "generate-test"]),
        (["key", "ls"], ["key", "list"]),
        (["plugin", "ls"], ["plugin", "list"]),
    ],
)
def test_aliases_of_notation(alias, name):
    assert parser_of(alias).parse_args([*alias, *arguments(name)]).run.__module__ == (
        parser_of(name).parse_args([*name, *arguments(name)]).run.__module__
    )


def arguments(name):
    """As many as the command needs."""
    parser = COMMANDS[" ".join(name)]
    needed = [one for one in parser._get_positional_actions() if one.nargs not in ("?", "*")]
    return ["x"] * len(needed)


def test_every_option_of_veritysetup_means_the_same_or_is_refused():
    """Above all none prints help and exits with 0, as -h did."""
    text = veritysetup("--help").out
    options = re.findall(r"^ {2}(?:(-\w|-\?), |    )(--[\w-]+)(=)?", text, re.MULTILINE)
    assert len(options) > 20
    ours = {
        name.split()[1]: parser for name, parser in COMMANDS.items() if name.startswith("verity ")
    }
    for action in ("format", "verify", "dump", "open", "close"):
        known = ours[action]._option_string_actions
        for short, name, value in options:
            if name == "--help":
                continue
            if name in known:
                assert (known[name].nargs != 0) == bool(value), (action, name)
            assert not short or known.get(short) is known.get(name), (action, short)


@pytest.mark.parametrize("where", ["before the action", "after it"])
def test_the_hash_of_veritysetup(where, data):
    words = (
        ["-h", "sha512", "format"] if where == "before the action" else ["format", "-h", "sha512"]
    )
    done = cli("verity", *words, data)
    if where == "before the action":
        assert done.exit_code == 2
        assert "unknown option -h" in done.err
    else:
        assert done.field("Hash algorithm") == "sha512"


@pytest.mark.parametrize("given", [["version"], ["--version"], ["-V"]])
def test_version(given):
    assert cli(*given).out == f"dmsign-fast {__version__}\n"
    known = json.loads(cli(*given, "--output", "json").out)
    assert known["version"] == __version__
    assert known["implementations"][known["sha256"]]
    assert f"SHA-256: {known['sha256']}\n" in cli(*given, "--verbose").out


def test_as_a_module():
    done = run(sys.executable, "-m", "dmsign_fast", "--version")
    assert done.out == f"dmsign-fast {__version__}\n"
    assert run(sys.executable, "-m", "dmsign_fast", "verfy").exit_code == 2


# quiet and verbose


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_quiet_verbose_and_json(name):
    known = COMMANDS[name]._option_string_actions
    assert {"--quiet", "--verbose", "--debug", "--output", "--help"} <= set(known)


def test_quiet_prints_nothing_but_errors(data, tmp_path):
    assert cli("verity", "format", data, tmp_path / "hash", "--quiet") == Done(0, "", "")
    assert cli("verity", "dump", tmp_path / "hash", "--quiet") == Done(0, "", "")
    assert json.loads(cli("verity", "dump", tmp_path / "hash", "--quiet", "-o", "json").out)
    done = cli("verity", "dump", data, "--quiet")
    assert (done.exit_code, done.out) == (3, "")
    assert len(done.err.splitlines()) == 1


def test_verbose_names_the_programs_that_run(tmp_path, monkeypatch):
    write(tmp_path / "veritysetup", b"#!/bin/sh\n").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("verity", "close", "name", "--verbose")
    assert re.search(r"^\d\.\d{3} s: running veritysetup close name$", done.err, re.MULTILINE)
    assert cli("verity", "close", "name").err == ""


@pytest.mark.parametrize("option", ["--deferred", "--cancel-deferred"])
def test_close_takes_the_options_of_veritysetup(option, tmp_path, monkeypatch):
    write(tmp_path / "veritysetup", b'#!/bin/sh\necho "$@" >"${0%/*}/words"\n').chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert cli("verity", "close", "layer0", option).exit_code == 0
    assert (tmp_path / "words").read_text() == f"close layer0 {option}\n"


# locales


LOCALES = {
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX"},
    "ASCII": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Latin-1": {"PYTHONIOENCODING": "iso-8859-1"},
}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("stream", ["out", "err"])
def test_text_that_the_locale_has_not(stream, locale, tmp_path):
    """Bytes of names are printed as they are, and characters of others escaped."""
    script = (
        "import os, sys; from dmsign_fast.cli import main; from dmsign_fast.cli.output import *;"
        f"main(['version']); print_line('\\u2713 ' + os.fsdecode(b'\\xe4'), sys.std{stream})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=LOCALES[locale], capture_output=True, check=True
    )
    last = getattr(done, f"std{stream}").splitlines()[-1]
    mark = b"\xe2\x9c\x93" if locale in ("C", "POSIX") else rb"\u2713"
    assert last == mark + b" \xe4"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("text", ["\udcff", "ü", "\x1b[31m", ""], ids=ascii)
def test_no_argument_is_a_bug(text, name, tmp_path, monkeypatch):
    """Whatever bytes it has: the locale decides which of them are text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("dmsign_fast.benchmark.speeds.measure", lambda **_: ())  # of minutes
    parser = COMMANDS[name]
    needed = [text] * len(arguments(name.split()))
    assert cli(*name.split(), *needed).exit_code not in (0, 70) or not needed
    for action in parser._actions:
        if action.option_strings and action.nargs != 0 and not action.choices:
            done = cli(*name.split(), *needed, f"{action.option_strings[-1]}={text}")
            assert done.exit_code != 70, (action.dest, done)
            assert "Traceback" not in done.err
            assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize(
    "words",
    [
        ("sign", "localhost:1/a:v1", "-m", "name=\udcff"),
        ("sign", "localhost:1/a:v1", "-m", "\udcff=value"),
        ("key", "add", "--plugin", "x", "--id", "y", "name", "--plugin-config", "a=\udcff"),
    ],
)
def test_what_is_no_text_stands_in_no_document(words):
    done = cli(*words)
    assert done.exit_code == 2
    assert "bytes that are no text in this locale" in done.err


def test_names_of_files_need_not_be_text(tmp_path):
    """In each place: what is read, what is written, keys, and messages."""
    home = tmp_path / os.fsdecode(b"\xff\xe4")
    home.mkdir()
    data = write(home / "data", noise(8192))
    files = make_leaf(make_root()).write(home / "pki")
    for more in ((), ("--quiet",), ("--output", "json"), ("--verbose",)):
        done = cli("verity", "sign", data, "--key", files.key, "--cert", files.chain, *more)
        assert done.exit_code == 0, done.err
        assert cli("verity", "dump", f"{data}.verity", *more).exit_code == 0
        done = cli("verity", "dump", data, *more)
        assert done.exit_code == 3
        assert f"{home}" in done.err


def test_verbose_logs_requests_without_what_is_secret_in_them(serve, connect):
    server = serve()
    push_image(connect(server), "v1")
    reference = f"{server.host}/app/web:v1"
    done = cli("list", reference, "--verbose")
    request = rf"^\d+\.\d{{3}} s: GET http://{re.escape(server.host)}/v2/app/web/\S+: 200 after \d"
    assert re.search(request, done.err, re.MULTILINE), done.err
    assert "?" not in done.err
    assert cli("list", reference).err == ""


# completion


COMPLETE = """\
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_shtab_dmsign_fast dmsign-fast "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ver"], {"verify", "verity", "version"}),
        (["verity", "fo"], {"format"}),
        (["verity", "format", "--hash-"], {"--hash-block-size", "--hash-offset"}),
        (["verity", "dump", "--output", ""], {"text", "json"}),
        (["verity", "dump", "/etc/host"], {str(path) for path in Path("/etc").glob("host*")}),
    ],
)
def test_bash_completes(words, wanted, tmp_path):
    script = write(tmp_path / "script", cli("completion", "bash").out.encode())
    done = run(program("bash"), "-c", COMPLETE, "_", script, "dmsign-fast", *words)
    assert set(done.out.split()) == wanted, done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_option(shell):
    script = cli("completion", shell).out
    for name, parser in COMMANDS.items():
        for word in (*name.split(), *shown(parser)):
            assert word.lstrip("-") in script, word
