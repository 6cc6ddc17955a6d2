"""Every command, one after the other, with each kind of output: what holds for all of them."""

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import signal
from pathlib import Path

import pytest
from cli.test_command_line import COMMANDS
from container_images import push_image, tars
from helpers import Done, cli, noise, veritysetup, write
from pki import make_intermediate, make_leaf, make_root

from dmsign_fast.cli import main
from dmsign_fast.cli.group import UsageError
from dmsign_fast.cli.main import parser_of
from dmsign_fast.node.system import Finished, System
from dmsign_fast.oci.layout import Layout

HOME = Path(__file__).parents[2]
# These do their work and say nothing of it.
SILENT = {"umount", "verity close"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with an image and keys, and no way from there to this machine's devices."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "notation"))
    monkeypatch.setenv("NOTATION_PASSWORD", "secret")
    layout = Layout.create(tmp_path / "image")
    image = push_image(layout, "v1", tars(2))
    layout.close()
    make_leaf(make_intermediate(make_root())).write(tmp_path)
    write(tmp_path / "data", noise(8 * 4096))
    write(tmp_path / "images.txt", b"image:v1\n")
    layer = image.layers[0].digest.encoded
    (tmp_path / "layer").write_bytes((tmp_path / f"image/blobs/sha256/{layer}").read_bytes())
    (tmp_path / "node").mkdir()
    nothing = Finished(0, b"", b"", 0)
    monkeypatch.setattr(System, "running", lambda: System(tmp_path / "node", lambda _: nothing))
    status = {"type": "VERITY", "status": "verified"}
    monkeypatch.setattr("dmsign_fast.node.device.device_status", lambda _: status)
    monkeypatch.setattr("dmsign_fast.node.device.close_device", lambda *_: None)
    monkeypatch.setattr("dmsign_fast.node.mount.unmount", lambda _: None)
    monkeypatch.setattr("dmsign_fast.benchmark.speeds.measure", lambda **_: ())
    monkeypatch.setattr("dmsign_fast.oci.login.check_login", lambda *_: True)
    for name, text in (("active", "1\n"), ("version", "1.0.0"), ("policy", "policy_name=a\n")):
        path = tmp_path / "node/sys/kernel/security/ipe/policies/a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write(tmp_path / "node/sys/kernel/security/ipe/enforce", b"1")
    return tmp_path


KEY = ("--key", "key.pem", "--cert", "chain.pem")
IMAGE = ("--oci-layout", "image:v1")
TRUST = ("--trust", "root.pem")
HASHED = ("data", "data.verity", "--root-hash-file", "data.roothash")
# Each command in an order in which all succeed; a word that is callable is asked for the place.
STEPS = {
    "version": (),
    "completion": ("bash",),
    "benchmark": ("--quick", "--directory", "."),
    "cert generate-test": ("test", "--default"),
    "cert add": ("--type", "ca", "--store", "own", "root.pem"),
    "cert list": (),
    "cert show": ("--type", "ca", "--store", "own", "root.pem"),
    "key add": ("release", *KEY),
    "key list": (),
    "key default": ("release",),
    "policy init": ("--name", "a", "--trust-store", "ca:own", "--trusted-identity", "*"),
    "policy show": (),
    "policy import": ("notation/trustpolicy.json", "--force"),
    "plugin install": (),
    "plugin list": (),
    "plugin describe": ("dmsign",),
    "plugin uninstall": ("dmsign", "--yes"),
    "sign": (*IMAGE, *KEY),
    "list": IMAGE,
    "inspect": IMAGE,
    "verify": (*IMAGE, *TRUST),
    "export": (*IMAGE, "exported", *TRUST),
    "mount": (*IMAGE, "mnt", *TRUST, "--dry-run"),
    "umount": ("mnt",),
    "prepare": (*IMAGE, "--cert", "chain.pem", "--directory", "to-sign"),
    "attach": ("to-sign",),
    "layer roothash": ("layer",),
    "layer identify": ("layer", lambda place: cli("layer", "roothash", "layer").out.split()[0]),
    "layer convert": ("layer", "--out", "layer.erofs", "--verity", "separate"),
    "verity format": (*HASHED, "--fec-device", "data.fec"),
    "verity dump": ("data.verity",),
    "verity verify": HASHED,
    "verity repair": (*HASHED, "--fec-device", "data.fec", "--in-place"),
    "verity sign": ("data", *KEY),
    "verity prepare": ("data", "--cert", "chain.pem", "--directory", "to-sign-2"),
    "verity attach": ("to-sign-2", "data"),
    "verity explain": ("layer.erofs", "1"),
    "verity proof": ("layer.erofs", "1", "--out", "proof"),
    "verity proof-check": ("proof", "--root-hash-file", "layer.erofs.roothash"),
    "verity open": ("data", "name", "--dry-run"),
    "verity status": ("name",),
    "verity close": ("name",),
    "doctor": (*("--signature", "data.roothash.p7s", "--root-hash-file", "data.roothash", *TRUST),),
    "ipe policy": ("--name", "a", "--version", "1.0.0"),
    "ipe sign": ("policy.ipe", *KEY),
    "ipe check": ("policy.ipe.p7b", *TRUST),
    "ipe show": (),
    "fleet plan": (*KEY, "--oci-layout", "--from", "images.txt", "--state", "run.state"),
    "fleet sign": (*KEY, "--oci-layout", "--from", "images.txt", "--state", "run.state"),
    "fleet status": ("run.state",),
    "fleet report": ("run.state",),
    "fleet verify": (*TRUST, "--oci-layout", "--from", "images.txt", "--state", "verify.state"),
    "fleet check": ("--workers", "1"),
    "login": ("registry.example", "--username", "alice", "--authfile", "auth.json"),
    "logout": ("registry.example", "--authfile", "auth.json"),
    "key delete": ("release", "--yes"),
    "cert delete": ("--type", "ca", "--store", "own", "--all", "--yes"),
}


def answer(place, name):
    """What a person or another program does before a command."""
    if name == "ipe sign":
        text = cli("ipe", "policy", *STEPS["ipe policy"]).out
        (place / "policy.ipe").write_text(text)
    if name in ("attach", "verity attach"):
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        directory = place / {"attach": "to-sign", "verity attach": "to-sign-2"}[name]
        key = load_pem_private_key((place / "key.pem").read_bytes(), None)
        for one in json.loads((directory / "manifest.json").read_text())["to_sign"]:
            path = directory / one["file"]
            write(path.with_name(f"{path.name}.sig"), key.sign(path.read_bytes(), ECDSA(SHA256())))


def every(place, *more):
    """The words of each command in turn, after what it needs."""
    for name, words in STEPS.items():
        answer(place, name)
        yield name, (*name.split(), *(one(place) if callable(one) else one for one in words), *more)


def into(stdout, words):
    """Run a command that writes to such a standard output."""
    handler = signal.getsignal(signal.SIGTERM)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(err):
            exit_code = main([str(word) for word in words])
    except SystemExit as end:
        exit_code = end.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    return Done(exit_code, "", err.buffer.getvalue().decode())


def test_the_table_has_every_command():
    assert sorted(STEPS) == sorted(COMMANDS)


def test_text(place):
    for name, words in every(place):
        done = cli(*words)
        assert done.exit_code == 0, (words, done)
        assert bool(done.out) == (name not in SILENT), (words, done)


def test_quiet_prints_nothing(place):
    for _, words in every(place, "--quiet"):
        assert cli(*words) == Done(0, "", ""), words


def test_json_is_one_object(place):
    for name, words in every(place, "--output", "json"):
        if name == "completion":
            continue
        done = cli(*words)
        assert done.exit_code == 0, (words, done)
        assert isinstance(json.loads(done.out), dict), words


def test_a_reader_that_has_left(place):
    """As in ``| head -0``: no traceback, and an exit status that says so."""
    for name, words in every(place):
        read, wanted = os.pipe()
        os.close(read)
        with open(wanted, "w") as stdout:  # noqa: PTH123
            done = into(stdout, words)
        assert done.exit_code == (0 if name in SILENT else 141), (words, done)
        assert "Traceback" not in done.err
        assert "error: " not in done.err


def test_standard_output_that_is_closed(place):
    for _, words in every(place):
        done = into(None, words)
        assert done.exit_code == 0, (words, done)
    page = ("fleet", "report", "run.state", "--output", "html")
    assert into(None, page).exit_code == 0


def test_a_locale_without_unicode(place):
    for _, words in every(place):
        stdout = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
        done = into(stdout, words)
        assert done.exit_code == 0, (words, done)
        stdout.buffer.getvalue().decode("ascii")


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_errors_are_json_too(name):
    done = cli(*name.split(), "--no-such-option", "--output", "json")
    error = json.loads(done.out)["error"]
    assert (error["exit_code"], done.exit_code) == (2, 2)
    assert error["message"].startswith("unknown option --no-such-option; ")


@pytest.mark.parametrize("columns", ["1", "30", "200"])
def test_help_of_any_width(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    for name in ["", *COMMANDS, *{name.partition(" ")[0] for name in COMMANDS}]:
        done = cli(*name.split(), "--help")
        assert (done.exit_code, done.err) == (0, "")
        assert "\nexamples:\n  " in done.out, name


def test_help_says_what_each_option_does():
    """No fragment that begins with a preposition, and nothing without a word."""
    for name, parser in COMMANDS.items():
        for action in parser._actions:
            first = (action.help or "").partition(" ")[0]
            assert first not in ("", "of", "that", "for", "also", "whose", "default:"), (
                name,
                action.dest,
            )


@pytest.mark.parametrize("name", ["sign", "verify"])
def test_the_ten_options_that_are_used_most_come_first(name):
    """Then those that say how to reach a registry, and others; those of every command are last."""
    text = cli(name, "--help").out
    sections = text.partition("positional arguments:")[2].split("\n\n")
    assert sections[1].startswith("most used options:\n")
    assert len([line for line in sections[1].splitlines() if line.startswith("  -")]) == 10
    headings = [one.partition(":\n")[0] for one in sections if ":\n  " in one]
    assert headings.index("registry") == 1
    assert headings[headings.index("options of every command") + 1] == "examples"
    assert len(set(headings)) == len(headings)


# names


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (("verify", "image:v1", "--cert", "root.pem"), "--trust"),
        (("export", "image:v1", "exported", "--ca", "root.pem"), "--trust"),
        (("sign", "image:v1", "--trust", "root.pem"), "--cert"),
        (("sign", "image:v1", "--certificate-chain", "chain.pem"), "--cert"),
        (("sign", "image:v1", "--insecure-registry"), "--plain-http"),
        (("list", "image:v1", "--cacert", "ca.pem"), "--ca-file"),
        (("sign", "image:v1", "-p", "secret"), "--password-stdin"),
        (("sign", "image:v1", "--plugin", "azure-kv"), "--key plugin:NAME?id=ID"),
    ],
)
def test_the_name_that_an_option_has_here_is_proposed(words, ours):
    done = cli(*words)
    assert done.exit_code == 2
    assert done.err.splitlines()[-1].endswith(f"; use {ours}")


def test_certificates_to_trust_have_one_name():
    """``--cert`` are a signer's own; where it was whom to trust, it is so without being shown."""
    for name, parser in COMMANDS.items():
        known = parser._option_string_actions
        if known.get("--cert") is not None and "--key" not in known and "prepare" not in name:
            hidden = known["--cert"].help == argparse.SUPPRESS
            assert (known["--cert"].dest == "trust") == hidden == (name != "doctor"), name


@pytest.mark.parametrize("option", ["--trust", "--cert"])
def test_the_former_name_of_trust(option, place):
    assert cli("verity", "sign", "data", *KEY, "--quiet").exit_code == 0
    verify = ("verity", "verify", *HASHED, "--signature", "data.roothash.p7s")
    assert cli(*verify, option, "root.pem").exit_code == 0
    assert cli(*verify).exit_code == 2
    assert cli("ipe", "policy", *STEPS["ipe policy"], "--out", "policy.ipe").exit_code == 0
    assert cli("ipe", "sign", "policy.ipe", *KEY).exit_code == 0
    assert "signed by CN=" in cli("ipe", "check", "policy.ipe.p7b", option, "root.pem").out
    judge = ("doctor", "--signature", "data.roothash.p7s")
    assert cli(*judge, option, "root.pem").out.startswith("Linux:          accepted")
    assert cli(*judge).exit_code == 4


def test_a_hash_that_only_veritysetup_has(place):
    done = cli("verity", "format", "data", "--hash", "whirlpool")
    assert done.exit_code == 2
    assert "'whirlpool' is not supported: Python's hashlib" in done.err
    made = veritysetup("format", "data", "data.hash", "--hash", "whirlpool")
    assert made.exit_code == 0, made.err
    for words in (("dump", "data.hash"), ("verify", "data", "data.hash", "00" * 64)):
        done = cli("verity", *words)
        assert done.exit_code == 3
        assert "the superblock at byte 0 of data.hash cannot be used: hash algorithm" in done.err


def examples():
    """The command lines in the help of every command and of every group, without what they are."""
    words = [(), *{(name.split()[0],) for name in COMMANDS}, *(name.split() for name in COMMANDS)]
    for name in words:
        text = cli(*name, "--help").out.partition("\nexamples:\n")[2]
        for line in re.sub(r" *\\\n *", " ", text).splitlines():
            told = re.split(r"(?<=\S) {3,}|[<>|] ", line.strip())[0]
            if match := re.match(r"(?:sudo )?(?:\S+=\S+ )?dmsign-fast (.*)", told):
                yield " ".join(name), match[1]


def test_examples_can_be_run_as_they_stand():
    """As far as their command lines go."""
    found = list(dict.fromkeys(examples()))
    assert len(found) > 120
    for name, line in found:
        if "COMMAND" in line or line.startswith("-"):
            continue
        words = shlex.split(line.replace("ROOT_HASH", "00").replace("...", ""))
        try:
            known = parser_of([word for word in words if word[0] != "-"]).parse_args(words)
        except UsageError as error:
            raise AssertionError(f"{name}: {line}: {error}") from None
        assert hasattr(known, "run")


@pytest.mark.parametrize(
    "page", [HOME / "README.md", *sorted(HOME.glob("docs/*.md"))], ids=lambda page: page.name
)
def test_command_lines_of_the_pages_are_what_the_commands_take(page):
    """Those that are whole; what stands for something, such as [--cert FILE], is for people."""
    text = re.sub(r" *\\\n *", " ", page.read_text())
    for line in text.splitlines():
        match = re.match(r"(?: {4})?(?:[$#] )?(?:sudo )?(?:[A-Z_]+=\S+ )?dmsign-fast (.*)", line)
        told = re.split(r" {2,}|[<>|;] | #", match[1])[0] if match else "..."
        if "..." in told or set(told) & set("[{$(…"):
            continue
        words = shlex.split(told.replace("ROOT_HASH", "00"))
        with contextlib.suppress(SystemExit):  # --help, and --version
            parser_of([word for word in words if word[0] != "-"]).parse_args(words)
