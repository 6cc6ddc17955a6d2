"""Plugins as programs: found, asked, and bounded."""

import pytest
from a_plugin import FAILURES, make_plugin
from helpers import write
from pki import make_leaf

from dmsign_fast.directories import plugin_directory
from dmsign_fast.errors import ParameterError, ProgramError, SigningError
from dmsign_fast.signing import plugin_host
from dmsign_fast.signing.plugin_host import find_plugin, list_plugins

SAID = {
    "hangs": (ProgramError, "did not end within 1 s"),
    "floods stdout": (ProgramError, "bytes to standard output and was stopped"),
    "floods stderr": (ProgramError, "bytes to standard error and was stopped"),
    "dies": (ProgramError, "was killed by SIGKILL"),
    "fails in text": (ProgramError, "with exit status 1; it said: no route to the vault"),
    "fails silently": (ProgramError, "with exit status 3, and said nothing"),
    "fails in JSON": (SigningError, "refused COMMAND: ACCESS_DENIED: not your key"),
    "fails in JSON after a log": (SigningError, "COMMAND: THROTTLED: too fast; try again"),
    "says nothing": (ProgramError, "does not keep to the contract: the answer to COMMAND is not J"),
    "says text": (ProgramError, "the answer to COMMAND is not JSON"),
    "says two things": (ProgramError, "the answer to COMMAND is not JSON"),
    "says a list": (ProgramError, "the answer to COMMAND is not a JSON object"),
    "says too little": (ProgramError, "is missing"),
}


@pytest.fixture
def libexec(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTATION_LIBEXEC", str(tmp_path / "libexec"))
    return tmp_path / "libexec"


@pytest.fixture(scope="module")
def leaf():
    return make_leaf()


def test_where_plugins_are(monkeypatch, tmp_path):
    for name in ("NOTATION_LIBEXEC", "NOTATION_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/one")
    for name, value, place in (
        ("", "", "/home/one/.config/notation/plugins"),
        ("XDG_CONFIG_HOME", "/xdg", "/xdg/notation/plugins"),
        ("NOTATION_CONFIG", "/config", "/config/plugins"),
        ("NOTATION_LIBEXEC", "/libexec", "/libexec/plugins"),
    ):
        if name:
            monkeypatch.setenv(name, value)
        assert str(plugin_directory()) == place


def test_every_failure_has_its_words():
    assert SAID.keys() == FAILURES.keys()


@pytest.mark.parametrize("failure", SAID)
def test_failures(failure, libexec, leaf, monkeypatch):
    monkeypatch.setattr(plugin_host, "METADATA_TIMEOUT", 1.0 if failure == "hangs" else 60.0)
    command = "get-plugin-metadata"
    make_plugin(libexec, leaf, wrong=f"{command}: {failure}")
    error, words = SAID[failure]
    with pytest.raises(error) as caught:
        find_plugin("test", 60).metadata()
    assert words.replace("COMMAND", command) in str(caught.value)
    assert str(caught.value).startswith("the plugin test ")
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_the_time_limit_is_that_of_the_plugin(libexec, leaf):
    make_plugin(libexec, leaf, wrong="describe-key: hangs")
    with pytest.raises(ProgramError, match=r"did not end within 0.5 s"):
        find_plugin("test", 0.5).ask("describe-key", {}, ())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("is another plugin", "says that it is the plugin 'other'"),
        ("has no version", "version is missing"),
        ("speaks contract 2.0", "speaks the versions 2.0 of notation's plugin contract, and not 1"),
    ],
)
def test_metadata_that_is_wrong(wrong, words, libexec, leaf):
    make_plugin(libexec, leaf, wrong=wrong)
    with pytest.raises(ProgramError) as caught:
        find_plugin("test").metadata()
    assert words in str(caught.value)


def test_a_message_is_shortened(libexec, leaf):
    home = make_plugin(libexec, leaf)
    long = 'printf \'{"errorMessage": "%0100000d"}\' 0 >&2; exit 1'
    write(home / "notation-test", f"#!/bin/sh\n{long}\n".encode())
    with pytest.raises(SigningError, match=r"refused describe-key: 0{600}\.\.\.$"):
        find_plugin("test").ask("describe-key", {}, ())


def test_what_is_not_a_plugin(libexec, leaf):
    with pytest.raises(ProgramError, match=r"the plugin test is not installed: .*notation-test"):
        find_plugin("test")
    home = make_plugin(libexec, leaf)
    path = home / "notation-test"
    path.rename(home / "other")
    path.symlink_to("other")
    with pytest.raises(ProgramError, match="is not a regular file, as a plugin must be"):
        find_plugin("test")
    path.unlink()
    write(path, b"\x7fELF but not really").chmod(0o644)
    with pytest.raises(ProgramError, match=r"is not executable: chmod"):
        find_plugin("test")
    path.chmod(0o755)
    with pytest.raises(ProgramError, match=r"cannot run the plugin test: .*Exec format error"):
        find_plugin("test").metadata()
    with pytest.raises(ParameterError, match="not the name of a plugin"):
        find_plugin("../libexec")


def test_a_list_of_all_there_is(libexec, leaf):
    assert list_plugins() == ()
    for name in ("b", "a"):
        make_plugin(libexec, leaf, name)
    plugins = libexec / "plugins"
    (plugins / "link").symlink_to("a")
    (plugins / ".installing-1").mkdir()
    (plugins / "empty").mkdir()
    write(plugins / "file", b"")
    assert list_plugins() == ("a", "b", "empty")
    assert find_plugin("a").metadata().name == "a"


def test_a_plugin_that_reads_nothing(libexec, leaf):
    """A request larger than a pipe holds."""
    home = make_plugin(libexec, leaf)
    write(home / "notation-test", b'#!/bin/sh\necho \'{"one": "1"}\'\n')
    said = find_plugin("test").ask("describe-key", {"payload": "x" * (1 << 20)}, ("one",))
    assert said.text("one") == "1"
