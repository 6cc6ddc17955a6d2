"""The commands for keys, trust stores and policies: one configuration for notation and for us."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from config_tree import tree
from helpers import DMSIGN, cli, noise, write
from notation import SCOPE, Layout, Notation
from pki import KEY_SPECS, make_intermediate, make_leaf, make_root, pem
from terminal import at_a_terminal

from dmsign_fast.envelope.pkcs7 import verify_root_hash
from dmsign_fast.envelope.trust import load_trust_anchors
from dmsign_fast.trust.verdict import envelope_verdict, trust_by_policy

COMMANDS = {
    "key": ("add", "list", "default", "delete"),
    "cert": ("add", "list", "show", "delete", "generate-test"),
    "policy": ("init", "show", "import"),
}
FORMATS = ("application/jose+json", "application/cose")
IDENTITY = "x509.subject: C=US, ST=WA, O=Notary"
INIT = ("policy", "init", "--name", "test", "--trust-store", "ca:test")


@pytest.fixture
def notation(tmp_path, monkeypatch):
    """notation and our commands, both with an empty configuration."""
    made = Notation(tmp_path / "home")
    made.home.mkdir()
    monkeypatch.setenv("NOTATION_CONFIG", str(made.config))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "oci")


def ok(*arguments):
    done = cli(*arguments)
    assert done.exit_code == 0, done.err
    return done


def json_of(*arguments):
    return json.loads(ok(*arguments, "--output", "json").out)


def refused(status, says, *arguments):
    """Run a command that is to end with a status and a reason, and to change nothing."""
    config = Path(os.environ["NOTATION_CONFIG"])
    before = tree(config)
    done = cli(*arguments)
    assert done.exit_code == status, done
    assert says in done.err.splitlines()[-1]
    assert tree(config) == before
    return done


def files_of(tmp_path, entity, name="pki"):
    return entity.write(tmp_path / name)


def same_lists(notation):
    """Both programs list the same, and in the same words."""
    for command in ("key", "cert"):
        theirs = notation(command, "list")
        assert theirs.exit_code == 0, theirs.err
        assert ok(command, "list").out == theirs.out


class TestSharedWithNotation:
    # of RSA-4096 two keys take up to half a minute to make
    @pytest.mark.parametrize("key_spec", [one for one in KEY_SPECS if one != "RSA-4096"])
    def test_a_generated_key_signs_and_is_trusted(self, notation, layout, tmp_path, key_spec):
        made = ok("cert", "generate-test", "test", "--key-spec", key_spec, "--default")
        ok(*INIT, "--trusted-identity", IDENTITY)
        same_lists(notation)
        for media_type in FORMATS:
            done = notation.sign(layout, media_type)
            assert done.exit_code == 0, done.err
        assert notation.verify(layout).exit_code == 0
        for envelope in layout.signatures():
            verdict = envelope_verdict(*envelope, trust_by_policy(SCOPE), target=layout.image)
            assert verdict.accepted, verdict.refusal()
        data = write(tmp_path / "data", noise(8192))
        key, chain = (notation.config / f"localkeys/test.{kind}" for kind in ("key", "crt"))
        ok("verity", "sign", data, "--key", key, "--cert", chain)
        # the certificate that the printed lines enrol is the one that the kernel needs
        root = Path(re.search(r"openssl x509 -in (\S+) ", made.out)[1])
        verify_root_hash(
            (tmp_path / "data.roothash.p7s").read_bytes(),
            bytes.fromhex((tmp_path / "data.roothash").read_text()),
            load_trust_anchors(root),
        )

    def test_a_signature_of_ours_by_the_configuration_of_both(self, notation, layout):
        ok("cert", "generate-test", "test", "--key-spec", "EC-256", "--default")
        ok(*INIT, "--trusted-identity", IDENTITY)
        ok("sign", "--oci-layout", f"{layout.root}:v1", "--no-dm-verity")
        verify = ("verify", "--oci-layout", f"{layout.root}:v1", "--scope", SCOPE, "--no-dm-verity")
        ok(*verify)
        assert notation.verify(layout).exit_code == 0
        ok("cert", "delete", "--type", "ca", "--store", "test", "--all", "--yes")
        assert cli(*verify).exit_code == 4
        assert notation.verify(layout).exit_code == 1

    def test_what_notation_makes(self, notation, tmp_path):
        files = files_of(tmp_path, make_leaf(make_root()))
        for arguments in (
            ("cert", "generate-test", "one"),
            ("cert", "generate-test", "--default", "two"),
            ("cert", "add", "--type", "signingAuthority", "--store", "x", files.root),
        ):
            assert notation(*arguments).exit_code == 0
        same_lists(notation)
        listed = json_of("key", "list")
        assert (listed["default"], [one["name"] for one in listed["keys"]]) == (
            "two",
            ["one", "two"],
        )
        ok("key", "delete", "two", "--yes")
        ok("key", "default", "one")
        same_lists(notation)
        assert notation("key", "set", "--default", "one").exit_code == 0
        where = ("--type", "ca", "--store", "one")
        ok("cert", "delete", *where, "one.crt", "--yes")
        same_lists(notation)
        assert not notation("cert", "show", *where, "one.crt").out

    def test_a_key_of_ours_signs_in_notation(self, notation, layout, tmp_path):
        files = files_of(tmp_path, make_leaf(make_intermediate(make_root())))
        add = ("key", "add", "mine", "--default", "--key", "pki/key.pem", "--cert", files.chain)
        assert ok(*add).out == "mine: marked as default\n"
        ok("key", "add", "kms", "--plugin", "p", "--id", "https://x/1", "--plugin-config", "a=b=c")
        same_lists(notation)
        assert notation.sign(layout, "application/cose").exit_code == 0
        ok("cert", "add", "-t", "ca", "-s", "test", files.root)
        ok(*INIT, "--trusted-identity", "*", "--scope", SCOPE, "--level", "permissive")
        assert notation.verify(layout).exit_code == 0
        kms = json.loads((notation.config / "signingkeys.json").read_text())["keys"][1]
        assert kms["pluginConfig"] == {"a": "b=c"}

    def test_certificates_are_shown_alike(self, notation, tmp_path):
        root = make_root()
        bundle = write(
            tmp_path / "bundle.pem", pem(root.certificate, make_intermediate(root).certificate)
        )
        where = ("--type", "ca", "--store", "test")
        ok("cert", "add", *where, bundle)
        theirs = notation("cert", "show", *where, "bundle.pem").out.splitlines()
        ours = ok("cert", "show", *where, "bundle.pem").out.splitlines()
        # times are ISO 8601 here, and Go's there
        assert [one for one in ours if "Valid" not in one] == [
            one for one in theirs if "Valid" not in one
        ]
        assert len(ours) == len(theirs)

    @pytest.mark.parametrize("importer", ["ours", "theirs"])
    def test_policies_are_shared(self, notation, tmp_path, importer):
        statement = {
            "name": "a\u200b",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "strict", "override": {"revocation": "skip"}},
            "trustStores": ["ca:test"],
            "trustedIdentities": ["*"],
        }
        policy = {"version": "1.0", "trustPolicies": [statement]}
        file = write(tmp_path / "policy.json", json.dumps(policy, indent=1).encode())
        if importer == "ours":
            ok("policy", "import", file)
        else:
            assert notation("policy", "import", file).exit_code == 0
        assert notation("policy", "show").out.encode() == file.read_bytes()
        assert json.loads(ok("policy", "show").out) == policy
        assert (notation.config / "trustpolicy.json").stat().st_mode & 0o777 == 0o600


class TestKeys:
    def test_what_is_not_added(self, notation, tmp_path):
        files = files_of(tmp_path, make_leaf(make_root()))
        other = files_of(tmp_path, make_leaf(make_root("Other"), "Other"), "other")
        pair = ("--key", files.key, "--cert", files.chain)
        ok("key", "add", "a", *pair)
        refused(2, "has a key 'a' already", "key", "add", "a", *pair)
        refused(2, "needs a name", "key", "add", "", *pair)
        refused(5, "wrong key", "key", "add", "b", "--key", files.key, "--cert", other.chain)
        refused(4, "cannot read", "key", "add", "b", "--key", "none", "--cert", files.chain)
        for wrong in (
            (),
            ("--key", files.key),
            ("--cert", files.chain),
            ("--plugin", "p"),
            ("--id", "i"),
            (*pair, "--plugin", "p"),
            (*pair, "--plugin-config", "a=b"),
        ):
            refused(2, "give --key and --cert, or --plugin and --id", "key", "add", "b", *wrong)
        twice = ("--plugin-config", "a=b", "--plugin-config", "a=c")
        refused(2, "same name twice", "key", "add", "b", "--plugin", "p", "--id", "i", *twice)

    def test_an_encrypted_key(self, notation, tmp_path, monkeypatch):
        files = make_leaf(make_root()).write(tmp_path / "pki", b"Pass phrase 42")
        add = ("key", "add", "a", "--key", files.key, "--cert", files.chain)
        refused(5, "no terminal to ask on", *add)
        monkeypatch.setenv("SECRET", "Pass phrase 42")
        done = ok(*add, "--passphrase-env", "SECRET")
        assert "Pass phrase" not in done.out + done.err
        assert "Pass phrase" not in (notation.config / "signingkeys.json").read_text()

    def test_default_and_delete(self, notation):
        for name in "abc":
            ok("key", "add", name, "--plugin", "p", "--id", "i")
        assert ok("key", "default", "b").out == "b: marked as default\n"
        assert "\n* b   " in ok("key", "list").out
        refused(2, "has no key 'd'", "key", "default", "d")
        refused(2, "has no key 'd'", "key", "delete", "a", "d", "--yes")
        refused(2, "has no key 'd'", "key", "delete", "d")
        done = ok("key", "delete", "b", "a", "b", "-y")
        assert done.out.splitlines() == [
            "Removed default key b from the signing key list. The key still exists.",
            "Removed a from the signing key list. The key still exists.",
        ]
        assert json_of("key", "list")["default"] is None
        assert notation("key", "list").out == ok("key", "list").out

    def test_adding_in_parallel_loses_nothing(self, notation):
        names = [f"key{number}" for number in range(6)]
        processes = [
            subprocess.Popen(
                [*DMSIGN, "key", "add", name, "--plugin", "p", "--id", "i"],
                stdout=subprocess.DEVNULL,
            )
            for name in names
        ]
        assert [process.wait(60) for process in processes] == [0] * len(names)
        assert sorted(one["name"] for one in json_of("key", "list")["keys"]) == names


class TestTrustStores:
    def test_what_is_not_added(self, notation, tmp_path):
        entity = make_leaf(make_root())
        files = files_of(tmp_path, entity)
        add = ("cert", "add", "--type", "ca", "--store", "test")
        refused(3, "neither a CA nor self-signed", *add, files.root, files.leaf)
        refused(3, "is not a certificate", *add, files.key)
        refused(4, "cannot read", *add, "none.pem")
        for wrong in (("CA", "test"), ("ca", "a/b"), ("ca", "")):
            words = ("cert", "add", "--type", wrong[0], "--store", wrong[1], files.root)
            refused(2, "is not a trust store", *words)
        ok(*add, files.root)
        refused(2, "has a file root.pem already", *add, files.root)
        assert json_of("cert", "list", "--store", "test") == {
            "certificates": [{"type": "ca", "store": "test", "file": "root.pem"}]
        }

    def test_what_is_added_is_named_as_by_notation(self, notation, tmp_path):
        files = files_of(tmp_path, make_leaf(make_root()))
        ours = ok("cert", "add", "--type", "ca", "--store", "ours", files.root)
        theirs = notation("cert", "add", "--type", "ca", "--store", "theirs", files.root)
        assert ours.out == theirs.out.replace("theirs", "ours")
        assert tree(notation.config / "truststore/x509/ca/ours") == tree(
            notation.config / "truststore/x509/ca/theirs"
        )

    def test_nothing_is_listed_without_stores(self, notation):
        assert ok("cert", "list").out == notation("cert", "list").out == ""
        assert not notation.config.exists()

    def test_deletion_of_a_file_or_all(self, notation, tmp_path):
        where = ("--type", "ca", "--store", "test")
        ok("cert", "add", *where, files_of(tmp_path, make_leaf(make_root())).root)
        refused(2, "give the name of one FILE, or --all", "cert", "delete", *where, "-y")
        both = ("cert", "delete", *where, "root.pem", "--all", "-y")
        refused(2, "give the name of one FILE, or --all", *both)
        refused(4, "cannot delete", "cert", "delete", *where, "none.pem", "-y")
        store = notation.config / "truststore/x509/ca/test"
        deleted = json_of("cert", "delete", *where, "--all", "--yes")
        assert deleted == {"type": "ca", "store": "test", "deleted": str(store)}
        assert not store.exists()


class TestGeneratedKeys:
    def test_json(self, notation):
        made = json_of(
            "cert", "generate-test", "a", "--bits", "3072", "--trust", "b", "--days", "2"
        )
        config = notation.config
        root = config / "truststore/x509/ca/b/a.crt"
        expires = made.pop("expires")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", expires)
        assert made == {
            "name": "a",
            "default": False,
            "key_path": str(config / "localkeys/a.key"),
            "certificate_path": str(config / "localkeys/a.crt"),
            "root_path": str(root),
            "enrol": [
                "modprobe dm_verity",
                f'openssl x509 -in {root} -outform DER | keyctl padd asymmetric "" %:.dm-verity',
                "keyctl restrict_keyring %:.dm-verity",
            ],
        }
        shown = json_of("cert", "show", "--type", "ca", "--store", "b", "a.crt")
        (certificate,) = shown.pop("certificates")
        assert shown == {"type": "ca", "store": "b", "file": "a.crt"}
        assert certificate["ca"] is True
        assert certificate["not_after"] == expires
        assert set(certificate) == {
            *("subject", "issuer", "serial", "fingerprint", "not_before", "not_after", "ca")
        }

    def test_refusals(self, notation):
        ok("cert", "generate-test", "a", "--key-spec", "EC-256")
        generate = ("cert", "generate-test")
        refused(2, "has a key 'a' already", *generate, "a", "--key-spec", "EC-256")
        refused(2, "use RSA-2048", *generate, "b", "--key-spec", "RSA-1024")
        refused(2, "use RSA-2048", *generate, "b", "--bits", "1024")
        refused(2, "is not a name", *generate, "../b", "--key-spec", "EC-256")
        refused(2, "for 1 to 3650 days", *generate, "b", "--days", "0")
        assert cli(*generate, "b", "--bits", "2048", "--key-spec", "EC-256").exit_code == 2

    def test_names_that_a_shell_would_take_apart(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "a b'c"))
        made = json_of("cert", "generate-test", "x", "--key-spec", "EC-256")
        line = made["enrol"][1].partition(" | ")[0]
        done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
        assert done.stdout.startswith(b"\x30\x82")

    def test_a_relative_configuration(self, notation, monkeypatch):
        monkeypatch.setenv("NOTATION_CONFIG", "home/notation")
        made = json_of("cert", "generate-test", "x", "--key-spec", "EC-256")
        assert made["key_path"] == str(notation.config / "localkeys/x.key")
        same_lists(notation)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interruption_leaves_nothing(self, notation, number):
        notation.config.mkdir(parents=True)
        program = """
import sys, time
from dmsign_fast.cli import main
from dmsign_fast.trust import keys
keys.SigningKeys.write = lambda *_: (print("ready", flush=True), time.sleep(60))
sys.exit(main())
"""
        process = subprocess.Popen(
            [DMSIGN[0], "-c", program, "cert", "generate-test", "x", "--key-spec", "EC-256"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert tree(notation.config) == {}


class TestPolicies:
    def test_init_says_where(self, notation):
        made = json_of(*INIT, "--trusted-identity", "*")
        file = str(notation.config / "trustpolicy.json")
        assert made == {"file": file, "replaced": False}
        assert json_of("policy", "show")["file"] == file
        assert ok("policy", "show", "--quiet").err == ""
        assert json_of(*INIT, "--trusted-identity", IDENTITY, "--force")["replaced"]
        shown = json_of("policy", "show")["policy"]
        assert shown["trustPolicies"][0]["trustedIdentities"] == [IDENTITY]

    def test_refusals(self, notation, tmp_path):
        refused(4, "there is no trust policy", "policy", "show")
        bad = write(tmp_path / "bad.json", b'{"version": "1.0", "trustPolicies": []}')
        refused(3, "bad.json has no trustPolicies", "policy", "import", bad, "--force")
        refused(2, "lacks C, ST", *INIT, "--trusted-identity", "x509.subject: O=a")
        refused(2, "level", *INIT, "--trusted-identity", "*", "--level", "none")
        ok(*INIT, "--trusted-identity", "*")
        refused(2, "give --force", *INIT, "--trusted-identity", "*")
        good = write(tmp_path / "good", (notation.config / "trustpolicy.json").read_bytes())
        refused(2, "give --force", "policy", "import", good)
        (notation.config / "trustpolicy.json").write_text("{")
        refused(3, "is not JSON", "policy", "show")
        ok("policy", "import", good, "--force")
        assert notation("policy", "show").out.encode() == good.read_bytes()


class TestQuestions:
    @pytest.fixture
    def commands(self, notation, tmp_path):
        """What asks, each with something to lose."""
        root = files_of(tmp_path, make_leaf(make_root())).root
        ok("key", "add", "a", "--plugin", "p", "--id", "i")
        where = ("--type", "ca", "--store", "test")
        ok("cert", "add", *where, root)
        ok(*INIT, "--trusted-identity", "*")
        policy = write(tmp_path / "p", (notation.config / "trustpolicy.json").read_bytes() + b"\n")
        return (
            ("key", "delete", "a"),
            ("cert", "delete", *where, "root.pem"),
            ("cert", "delete", *where, "--all"),
            (*INIT, "--trusted-identity", IDENTITY),
            ("policy", "import", policy),
        )

    def test_without_a_terminal_nothing_is_done(self, commands):
        for command in commands:
            assert "There is no terminal to ask on" in refused(2, "give --", *command).err

    @pytest.mark.parametrize("typed", [b"n\n", b"\n", b"yesterday\n", b"\x04", b"\x03"])
    def test_what_is_no_yes(self, commands, notation, typed):
        before = tree(notation.config)
        for command in commands[:1] if typed != b"n\n" else commands:
            status, shown = at_a_terminal(command, "[y/N]", typed)
            assert status == (130 if typed == b"\x03" else 2), shown
            assert "nothing was" in shown
        assert tree(notation.config) == before

    @pytest.mark.parametrize("typed", [b"y\n", b"Yes\n"])
    def test_yes(self, commands, notation, typed):
        for command in commands if typed == b"y\n" else commands[:1]:
            before = tree(notation.config)
            status, shown = at_a_terminal(command, "[y/N]", typed)
            assert status == 0, shown
            assert tree(notation.config) != before


@pytest.mark.parametrize(
    ("group", "command"), [(group, one) for group in COMMANDS for one in COMMANDS[group]]
)
def test_help_has_examples_and_names_every_command(group, command):
    done = cli(group, command, "--help")
    assert done.exit_code == 0
    assert f"dmsign-fast {group} {command}" in done.out.partition("examples:\n  ")[2]
    assert "--output {text,json}" in done.out
    assert f"    {command}" in cli(group, "--help").out


def test_no_cryptography_is_loaded_for_help():
    program = "import sys\nfrom dmsign_fast.cli import main\ntry: main(['cert', '--help'])\n"
    program += "finally: print('cryptography' in sys.modules)"
    done = subprocess.run([DMSIGN[0], "-c", program], capture_output=True, check=False)
    assert done.stdout.endswith(b"False\n")
