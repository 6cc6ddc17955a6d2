"""``dmsign-fast sign`` and ``list`` as people use them, before the real notation and alone."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from container_images import push_artifact, push_attestation, push_image, push_index, tars
from helpers import DMSIGN, cli, dmsign, wait_until, write
from images import layer as layer_of
from notation import SCOPE, Notation
from pipeline import conftest as pipeline
from pki import DAY, make_expired_leaf, make_intermediate, make_leaf, make_root, pem
from real_registries import REAL_REGISTRIES
from registry_server import cut_after, status
from tsa import Authority, make_tsa
from tsa import serve as serve_tsa

from dmsign_fast import __version__
from dmsign_fast.envelope.notary import parse_envelope
from dmsign_fast.envelope.signed_data import parse_signed_data

make_home = pipeline.make_home
NOTARY = "application/vnd.cncf.notary.signature"
DM_VERITY = "application/vnd.cncf.notary.signature.dm-verity"
OSGUARD = "application/vnd.oci.mt.pkcs7"
SECRET = "Pass phrase 42"


@pytest.fixture(scope="module")
def leaf():
    return make_leaf(make_intermediate(make_root()))


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """An empty configuration of notation, and no login."""
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "home/notation"))
    for name in ("NOTATION_USERNAME", "NOTATION_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return Notation(tmp_path / "home")


@pytest.fixture
def home(make_home):
    return make_home("layout")


@pytest.fixture
def key(leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    return ("--key", files.key, "--cert", files.chain)


def name(home, wanted="v1"):
    *options, place = home.arguments
    return (*options, f"{place}{'@' if ':' in wanted else ':'}{wanted}")


def types(home, manifest):
    return sorted(one.artifact_type for one in home.store.referrers(manifest.descriptor))


def only(home, manifest, kind):
    (found,) = home.store.referrers(manifest.descriptor, kind)
    return found


def assert_fails(done, exit_code, *words):
    assert done.exit_code == exit_code, done
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("dmsign-fast")
    assert ": error: " in last
    for word in words:
        assert word in last, last
    assert "Successfully" not in done.out


# what notation says of it


def judge(notation, home, image, *options, command="verify"):
    """Let notation verify or list."""
    *layout, place = home.arguments
    reference = f"{place}@{image.descriptor.digest}"
    scope = ("--scope", SCOPE) if layout and command == "verify" else ()
    where = () if layout else ("--insecure-registry",)
    done = notation(command, *layout, reference, *scope, *where, *options)
    if home.server:  # which is made for our own manners
        home.server.complaints.clear()
    return done


def listed(done):
    return [line.split()[-1] for line in done.out.splitlines() if "sha256:" in line][1:]


OLAREG = [
    ("jws", "RSA-2048", "artifact-type", "notation"),
    ("cose", "EC-384", "legacy", "osguard"),
]


@pytest.mark.parametrize(
    ("kind", "envelope", "key_spec", "form", "artifact"),
    [
        ("layout", "jws", "RSA-2048", "legacy", "notation"),
        ("layout", "cose", "EC-521", "legacy", "osguard"),
        ("docker-registry", "cose", "RSA-4096", "legacy", "notation"),
        ("docker-registry", "jws", "EC-384", "artifact-type", "osguard"),
        ("api", "jws", "RSA-3072", "legacy", "osguard"),
        ("api", "cose", "EC-256", "artifact-type", "notation"),
        ("tag schema", "jws", "EC-256", "legacy", "notation"),
        *(("olareg", *one) for one in OLAREG if "olareg" in REAL_REGISTRIES),
    ],
)
def test_notation_accepts(
    kind, envelope, key_spec, form, artifact, make_home, configuration, tmp_path
):
    home = make_home(kind)
    leaf = make_leaf(make_intermediate(make_root()), f"Signer {key_spec}", key=key_spec)
    files = leaf.write(tmp_path / "pki")
    image = push_image(home.store, "v1")
    done = cli(
        *("sign", *name(home), "--key", files.key, "--cert", files.chain, "--expiry", "24h"),
        *("--signature-format", envelope, "--manifest-form", form, "--artifact", artifact),
        *("--user-metadata", "build=7", "--user-metadata", "who=<ö&>="),
    )
    assert done.exit_code == 0, done.err
    assert types(home, image) == sorted([NOTARY, DM_VERITY if artifact == "notation" else OSGUARD])
    if home.server:
        assert home.server.complaints == []
    manifest = home.store.fetch_manifest(only(home, image, NOTARY))
    assert manifest.artifact_type == (NOTARY if form == "artifact-type" else None)
    (layer,) = manifest.layers
    said = parse_envelope(home.read(layer), layer.media_type)
    assert said.expiry - said.signing_time == DAY
    assert said.agent == f"dmsign-fast/{__version__}"
    notation = configuration
    notation.trust(pem(leaf.root))
    verified = judge(notation, home, image)
    assert verified.exit_code == 0, verified.err
    assert "Successfully verified signature" in verified.out
    assert "who" in verified.out
    assert "<ö&>=" in verified.out
    assert re.search(r"^dmsign-fast\.root-hashes +sha256:[0-9a-f]{64} *$", verified.out, re.M)
    assert judge(notation, home, image, "--user-metadata", "build=7").exit_code == 0
    assert judge(notation, home, image, "--user-metadata", "build=8").exit_code == 1
    shown = judge(notation, home, image, command="list")
    assert listed(shown) == [only(home, image, NOTARY).digest], shown
    notation.trust(pem(make_root("Nobody").certificate), store="ca/other")
    (notation.config / "truststore/x509/ca/test/0.pem").write_bytes(pem(make_root("No").root))
    assert judge(notation, home, image).exit_code == 1


@pytest.mark.parametrize("envelope", ["jws", "cose"])
def test_notation_accepts_a_timestamp(envelope, home, key, leaf, configuration, tmp_path):
    authority = Authority(make_tsa(), tmp_path / "tsa")
    root = write(tmp_path / "tsa.pem", pem(authority.entity.root))
    image = push_image(home.store, "v1", tars(1))
    assert cli("sign", *name(home), *key, "--no-manifest-signature").exit_code == 0
    with serve_tsa(authority.answer) as url:
        options = ("--timestamp-url", url, "--timestamp-root-cert", root)
        for _ in range(2):  # once is enough
            done = cli("sign", *name(home), *key, "--signature-format", envelope, *options)
            assert done.exit_code == 0, done.err
    assert len(types(home, image)) == 2
    notation = configuration
    notation.trust(root.read_bytes(), store="tsa/test")
    notation.trust(pem(leaf.root), policy={"trustStores": ["ca:test", "tsa:test"]})
    done = judge(notation, home, image, "--debug")
    assert done.exit_code == 0, done.err
    assert "Timestamp verification: Success" in done.err


def test_a_signature_without_a_timestamp_is_another(home, key, tmp_path):
    authority = Authority(make_tsa(), tmp_path / "tsa")
    root = write(tmp_path / "tsa.pem", pem(authority.entity.root))
    image = push_image(home.store, "v1", tars(1))
    sign = ("sign", *name(home), *key, "--no-dm-verity")
    with serve_tsa(authority.answer) as url:
        for options in ((), ("--timestamp-url", url, "--timestamp-root-cert", root)) * 2:
            assert cli(*sign, *options).exit_code == 0
    assert types(home, image) == [NOTARY, NOTARY]


def test_beside_signatures_of_notation(home, key, leaf, configuration):
    image = push_image(home.store, "v1")
    notation = configuration
    notation.trust(pem(leaf.root))
    notation.use_key(leaf)
    assert judge(notation, home, image, command="sign").exit_code == 0
    assert types(home, image) == [NOTARY]
    assert cli("sign", *name(home), *key).exit_code == 0
    # its signature of the manifest says nothing of root hashes
    assert types(home, image) == [NOTARY, NOTARY, DM_VERITY]
    assert cli("sign", *name(home), *key, "--no-dm-verity").exit_code == 0
    assert types(home, image) == [NOTARY, NOTARY, DM_VERITY]  # and here it is as good
    assert cli("sign", *name(home), *key, "--force").exit_code == 0
    assert types(home, image) == [NOTARY, NOTARY, NOTARY, DM_VERITY, DM_VERITY]
    assert len(listed(judge(notation, home, image, command="list"))) == 3
    assert judge(notation, home, image).exit_code == 0


@pytest.mark.parametrize("kind", REAL_REGISTRIES)
def test_all_of_an_index_before_notation(kind, make_home, key, leaf, configuration):
    home = make_home(kind)
    amd64 = push_image(home.store, contents=tars(2))
    attestation = push_attestation(home.store, amd64.descriptor)
    index = push_index(home.store, "v1", [(amd64, "linux/amd64"), (attestation, "unknown/unknown")])
    assert cli("sign", *name(home), *key, "--recursive").exit_code == 0
    assert types(home, amd64) == [NOTARY, DM_VERITY]
    assert types(home, attestation) == types(home, index) == [NOTARY]
    configuration.trust(pem(leaf.root))
    for manifest in (index, amd64, attestation):
        done = judge(configuration, home, manifest)
        assert done.exit_code == 0, done.err


# what it says


def test_text(home, key):
    image = push_image(home.store, "v1")
    place, digest = home.arguments[-1], image.descriptor.digest
    done = cli("sign", *name(home), *key)
    notary, dm_verity = (only(home, image, kind).digest for kind in (NOTARY, DM_VERITY))
    *roots, signed, first, second = done.out.splitlines()
    assert [line.split("  ")[1] for line in roots] == [layer.digest for layer in image.layers]
    assert all(len(bytes.fromhex(line.split("  ")[0])) == 32 for line in roots)
    assert signed == f"Successfully signed {place}@{digest}"
    assert first == f"Pushed the signature to {place}@{dm_verity}"
    assert second == f"Pushed the signature to {place}@{notary}"
    note, *stages, summary = done.err.splitlines()
    assert note == (f"{place}:v1 names a tag, which may move: its digest is what is signed")
    assert [line.partition(": ")[0] for line in stages] == ["hash", "sign", "push"]
    assert summary.startswith(f"signed layers of {sum(one.size for one in image.layers)} bytes in")
    again = cli("sign", *name(home, digest), *key)
    assert again.out.splitlines() == [*roots, f"Already signed {place}@{digest}"]
    assert "names a tag" not in again.err
    assert cli("sign", *name(home), *key, "--quiet").err == ""
    for one in (done, again):
        assert "\r" not in one.out + one.err  # no bar where nobody looks on


@pytest.mark.parametrize("kind", ["layout", "api"])
def test_json(kind, make_home, key, leaf):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    done = cli("sign", *name(home), *key, "--output", "json", "--recipe", "osguard@1.8.6")
    found = json.loads(done.out)
    assert found.keys() == {"reference", "images", "recipe", "signer", "bytes", "seconds"}
    assert found["reference"] == name(home)[-1]
    assert found["recipe"]["name"] == "osguard"
    assert found["recipe"]["mkfs-version"] == "1.8.6"
    assert found["signer"] == leaf.certificate.subject.rfc4514_string()
    assert found["bytes"] == sum(layer.size for layer in image.layers)
    (one,) = found["images"]
    assert one.keys() == {
        *("manifest", "media_type", "dm_verity_artifact", "notary_signature"),
        *("added", "layers", "seconds"),
    }
    assert one["manifest"] == image.descriptor.digest
    assert one["media_type"] == image.descriptor.media_type
    assert one["notary_signature"] == only(home, image, NOTARY).digest
    assert one["dm_verity_artifact"] == only(home, image, DM_VERITY).digest
    assert one["added"] == [one["dm_verity_artifact"], one["notary_signature"]]
    assert one["seconds"].keys() == {"hash", "sign", "push"}
    artifact = home.store.fetch_manifest(only(home, image, DM_VERITY))
    assert [layer["root_hash"] for layer in one["layers"]] == [
        layer.annotations["io.cncf.notary.dm-verity.root-hash"] for layer in artifact.layers
    ]
    assert [layer["digest"] for layer in one["layers"]] == [one.digest for one in image.layers]
    for layer in one["layers"]:
        assert layer.keys() == {
            *("digest", "diff_id", "root_hash", "size", "uncompressed_size", "reused")
        }
    assert "names a tag" in done.err  # not where the JSON is
    again = json.loads(
        cli(
            "sign",
            *name(home),
            *key,
            "--output",
            "json",
            "--recipe",
            "osguard@1.8.6",
            "--no-dm-verity",
        ).out
    )
    (one,) = again["images"]
    assert (one["dm_verity_artifact"], one["layers"], one["added"]) == (None, [], [])
    assert one["notary_signature"] == only(home, image, NOTARY).digest


def test_the_root_hashes_are_those_of_layer_roothash(home, key, tmp_path):
    image = push_image(home.store, "v1")
    options = ("--recipe", "containerd@1.8.6", "--salt", "abcd", "--data-block-size", "512")
    signed = cli("sign", *name(home), *key, *options, "--threads", "1", "--memory", "1M")
    assert signed.exit_code == 0, signed.err
    for line, layer in zip(signed.out.splitlines(), image.layers, strict=False):
        path = home.store.path / "blobs" / layer.digest.replace(":", "/")
        done = cli("layer", "roothash", path, "--digest", layer.digest, *options)
        assert done.out.split()[0] == line.split()[0]


def test_what_is_reused(home, key, leaf, tmp_path):
    push_image(home.store, "v1", tars(2))
    sign = ("sign", *name(home), *key)
    first = json.loads(cli(*sign, "--output", "json").out)["images"][0]
    push_image(home.store, "v2")
    again = ("sign", *name(home, "v2"), *key)
    done = cli(*again, "--reuse")
    assert done.exit_code == 0, done.err
    one, two, three, *_ = done.out.splitlines()
    for line in (one, two):
        assert line.endswith(f"  reused from {first['dm_verity_artifact']}")
    assert "reused" not in three
    assert "signed layers of 5" in done.err  # thousand bytes, of the third
    found = json.loads(cli(*again, "--reuse-from", "v1", "--force", "--output", "json").out)
    reused = [layer["reused"] for layer in found["images"][0]["layers"]]
    assert None not in reused
    assert [layer["uncompressed_size"] for layer in found["images"][0]["layers"]] == [None] * 3
    assert found["bytes"] == 0
    assert_fails(cli(*again, "--reuse-cert", key[3]), 2, "goes with --reuse")
    other = make_leaf(make_root("Former Root"), "Former").write(tmp_path / "former")
    done = cli(*sign, "--reuse", "--reuse-cert", other.leaf, "--force")
    assert done.out.count("  reused from ") == 2


def test_an_error_in_json(home, key):
    done = cli("sign", *name(home), *key, "--output", "json")
    assert json.loads(done.out)["error"]["exit_code"] == done.exit_code == 4
    assert "there is no tag v1" in json.loads(done.out)["error"]["message"]


def test_a_bar_where_a_person_looks_on(home, key):
    push_image(home.store, "v1", tars(1))
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = subprocess.Popen(
        [*DMSIGN, "sign", *name(home), *map(str, key)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    out, _ = process.communicate(timeout=60)
    shown = b""
    try:
        while piece := os.read(master, 4096):
            shown += piece
    except OSError:  # so a pty says that the other end is closed
        pass
    os.close(master)
    assert process.returncode == 0, shown
    assert b"signing: " in shown
    assert b"\r" not in out


def test_list(home, key):
    image = push_image(home.store, "v1")
    place, digest = home.arguments[-1], image.descriptor.digest
    assert cli("list", *name(home)).out.splitlines() == [
        f"{place}@{digest}",
        "└── nothing refers to it",
    ]
    cli("sign", *name(home), *key)
    notary, dm_verity = (only(home, image, kind) for kind in (NOTARY, DM_VERITY))
    assert cli("list", *name(home)).out.splitlines() == [
        f"{place}@{digest}",
        f"├── {dm_verity.digest} {DM_VERITY}",
        f"└── {notary.digest} {NOTARY}",
    ]
    assert json.loads(cli("list", *name(home), "--output", "json").out) == {
        "reference": f"{place}:v1",
        "images": [
            {
                "manifest": digest,
                "referrers": [dm_verity.to_json(), notary.to_json()],
            }
        ],
    }


def test_list_of_an_index(home, key):
    image = push_image(home.store, contents=tars(1))
    index = push_index(home.store, "v1", [(image, "linux/amd64")])
    cli("sign", *name(home), *key, "--platform", "linux/amd64")
    place = home.arguments[-1]
    nothing = [f"{place}@{index.descriptor.digest}", "└── nothing refers to it"]
    assert cli("list", *name(home)).out.splitlines() == nothing
    of_image = cli("list", *name(home), "--platform", "linux/amd64").out.splitlines()
    assert len(of_image) == 3
    assert cli("list", *name(home), "--recursive").out.splitlines() == [*of_image, *nothing]


# keys


def test_keys_by_their_names(home, leaf, configuration, tmp_path):
    image = push_image(home.store, "v1", tars(1))
    root = make_root()
    other = make_leaf(root, "Other")
    files, more = leaf.write(tmp_path / "one"), other.write(tmp_path / "two")
    keys = [
        {"name": "one", "keyPath": str(files.key), "certPath": str(files.chain)},
        {"name": "two", "keyPath": str(more.key), "certPath": str(more.chain)},
        {"name": "cloud", "id": "https://vault/keys/1", "pluginName": "azure-kv"},
    ]
    configuration.config.mkdir()
    config = configuration.config / "signingkeys.json"
    config.write_text(json.dumps({"default": "two", "keys": keys}))
    subjects = []
    for option in ((), ("--key", "one"), ("--key", "two")):
        done = cli("sign", *name(home), *option, "--output", "json")
        assert done.exit_code == 0, done.err
        subjects.append(json.loads(done.out)["signer"])
    assert subjects == [one.certificate.subject.rfc4514_string() for one in (other, leaf, other)]
    assert len(types(home, image)) == 4
    missing = cli("sign", *name(home), "--key", "cloud")
    assert_fails(missing, 4, "the plugin azure-kv is not installed", "dmsign-fast plugin")
    assert_fails(cli("sign", *name(home), "--key", "three"), 2, "'three'", "one, two, cloud")
    config.write_text(json.dumps({"keys": keys}))
    assert_fails(cli("sign", *name(home)), 2, "no default key", "--key")
    config.unlink()
    assert_fails(cli("sign", *name(home)), 2, "no default key", "--key")
    config.write_text("{")
    assert_fails(cli("sign", *name(home)), 3, "signingkeys.json")


def test_what_root_hash_signatures_are_like(home, tmp_path):
    leaf = make_leaf(make_root(), key="RSA-2048")
    files = leaf.write(tmp_path / "pki")
    image = push_image(home.store, "v1", tars(1))
    arguments = ("sign", *name(home), "--key", files.key, "--cert", files.chain)
    found = []
    for options in ((), ("--digest", "sha512"), ("--no-certs",)):
        done = cli(*arguments, *options, "--output", "json")
        (signed,) = json.loads(done.out)["images"]
        of_digest = {one.digest: one for one in home.store.referrers(image.descriptor)}
        artifact = home.store.fetch_manifest(of_digest[signed["dm_verity_artifact"]])
        parsed = parse_signed_data(home.read(artifact.layers[0]))
        found.append((parsed.digest, len(parsed.certificates)))
    assert found == [("sha256", 2), ("sha512", 2), ("sha256", 0)]


def test_a_key_in_a_file_needs_its_certificate(home, leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    push_image(home.store, "v1", tars(1))
    assert_fails(cli("sign", *name(home), "--key", files.key), 2, "--cert")
    assert_fails(cli("sign", *name(home), "--cert", files.chain), 2, "--cert needs --key")


def test_a_passphrase_is_in_a_file_or_the_environment(home, leaf, tmp_path):
    files = leaf.write(tmp_path / "pki", SECRET.encode())
    image = push_image(home.store, "v1", tars(1))
    arguments = ("sign", *name(home), "--key", files.key, "--cert", files.chain)
    secret = write(tmp_path / "secret", SECRET.encode() + b"\n")
    runs = [
        cli(*arguments, "--passphrase-file", secret, "--debug"),
        dmsign(*arguments, "--force", "--passphrase-env", "S", environment={"S": SECRET}),
        cli(*arguments, "--passphrase", SECRET),
        cli(*arguments, "--password", SECRET),
        dmsign(*arguments),
        cli(*arguments, "--passphrase-file", write(tmp_path / "wrong", b"wrong")),
    ]
    assert [done.exit_code for done in runs] == [0, 0, 2, 2, 5, 5]
    assert len(types(home, image)) == 4
    for done in (*runs[:2], *runs[4:]):
        assert SECRET not in done.out + done.err
    assert "--passphrase-file" in runs[4].err


# registries


def test_logins(make_home, key, monkeypatch, serve, connect):
    from container_images import Home

    from dmsign_fast.oci.credentials import Credentials

    server = serve(login="basic")
    login = Credentials(username="alice", password="secret")
    home = Home(connect(server, "app/web", login), server)
    image = push_image(home.store, "v1", tars(1))
    before = home.contents
    arguments = ("sign", *name(home), *key)
    assert_fails(cli(*arguments), 6, "wants a user name and password", "docker login")
    assert_fails(cli(*arguments, "--username", "alice"), 2, "--username needs --password-stdin")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert_fails(cli(*arguments, "--username", "alice", "--password-stdin"), 2)
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
    assert_fails(cli(*arguments, "--password-stdin"), 2, "--username")
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))
    done = cli(*arguments, "--username", "alice", "--password-stdin")
    assert_fails(done, 6, "401")
    assert "wrong" not in done.err
    assert home.contents == before
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\r\nrest"))
    done = cli(*arguments, "--username", "alice", "--password-stdin")
    assert done.exit_code == 0, done.err
    assert types(home, image) == [NOTARY, DM_VERITY]
    monkeypatch.setenv("NOTATION_PASSWORD", "secret")
    assert cli(*arguments, "--username", "alice").exit_code == 0
    monkeypatch.setenv("NOTATION_USERNAME", "alice")
    assert cli(*arguments).exit_code == 0
    monkeypatch.setenv("NOTATION_USERNAME", "bob")
    assert cli(*arguments).exit_code == 6
    assert cli(*arguments, "--username", "alice").exit_code == 0
    assert len(types(home, image)) == 2


# failures


USAGE = {
    "no tag": ("sign", "--oci-layout", "layout"),
    "a registry without a name": ("sign", "app:v1"),
    "a bad digest": ("sign", "localhost:5000/app@sha256:00"),
    "no unit": ("--expiry", "5"),
    "no time": ("--expiry", "0h"),
    "a year": ("--expiry", "1y"),
    "the past": ("--expiry", "-1h"),
    "for ever": ("--expiry", "9999999d"),
    "longer": ("--expiry", f"{'9' * 20}d"),
    "no value": ("--user-metadata", "build"),
    "no name": ("--user-metadata", "=7"),
    "twice": ("--user-metadata", "build=7", "--user-metadata", "build=8"),
    "reserved": ("--user-metadata", "io.cncf.notary.x=7"),
    "no root": ("--timestamp-url", "http://localhost:1"),
    "no url": ("--timestamp-root-cert", "tsa.pem"),
    "another scheme": ("--timestamp-url", "ftp://localhost", "--timestamp-root-cert", "tsa.pem"),
    "nothing": ("--no-dm-verity", "--no-manifest-signature"),
    "both": ("--platform", "linux/amd64", "--recursive"),
    "no recipe": ("--recipe", "podman"),
    "no version": ("--recipe", "containerd@1.4"),
    "no artifact": ("--artifact", "zip"),
    "no format": ("--signature-format", "pgp"),
    "no jobs": ("--jobs", "many"),
    "no digest": ("--digest", "sha1"),
}


@pytest.mark.parametrize("what", USAGE)
def test_usage_is_2_and_changes_nothing(what, home, key, leaf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tsa.pem", pem(leaf.root))
    push_image(home.store, "v1", tars(1))
    before = home.contents
    wrong = USAGE[what]
    arguments = wrong if wrong[0] == "sign" else ("sign", *name(home), *wrong)
    assert_fails(cli(*arguments, *key), 2)
    assert home.contents == before


def fail(what, home, leaf, tmp_path):
    """Arguments that fail, the exit status, and words of the message."""
    files = leaf.write(tmp_path / "pki")
    key = ("--key", files.key, "--cert", files.chain)
    if what == "no image":
        push_artifact(home.store, "v1")
        return (*key,), 3, ["is no container image", "--no-dm-verity"]
    image = push_image(home.store, "v1", tars(2))
    if what == "an index":
        push_index(home.store, "v1", [(image, "linux/amd64"), (image, "linux/arm64")])
        return (*key,), 2, ["linux/amd64, linux/arm64", "--platform", "--recursive"]
    if what == "another platform":
        push_index(home.store, "v1", [(image, "linux/amd64")])
        return (*key, "--platform", "linux/riscv64"), 2, ["linux/riscv64", "it has linux/amd64"]
    if what == "a damaged layer":
        home.damage(image.layers[1], lambda data: data[:-1] + b"x")
        return (*key,), 1, [image.layers[1].digest]
    if what == "another key":
        other = make_leaf(make_root(), "Other").write(tmp_path / "other")
        return ("--key", other.key, "--cert", files.chain), 5, ["wrong key for the certificate"]
    if what == "an expired certificate":
        old = make_expired_leaf(make_root()).write(tmp_path / "old")
        return ("--key", old.key, "--cert", old.chain), 5, ["expired"]
    if what == "no root":
        return ("--key", files.key, "--cert", files.leaf), 5, ["certificates cannot sign for"]
    if what == "no key":
        return ("--key", tmp_path / "none", "--cert", files.chain), 4, ["none"]
    if what == "no authority":
        options = ("--timestamp-url", "http://127.0.0.1:1", "--timestamp-root-cert", files.root)
        return (*key, *options), 4, ["no timestamp from http://127.0.0.1:1"]
    assert what == "a key that is none"
    return ("--key", files.chain, "--cert", files.chain), 3, ["not a private key"]


@pytest.mark.parametrize("kind", ["layout", "api"])
@pytest.mark.parametrize(
    "what",
    [
        "no image",
        "an index",
        "another platform",
        "a damaged layer",
        "another key",
        "an expired certificate",
        "no root",
        "no key",
        "no authority",
        "a key that is none",
    ],
)
def test_failures_have_their_exit_status_and_push_nothing(what, kind, make_home, leaf, tmp_path):
    home = make_home(kind)
    options, exit_code, words = fail(what, home, leaf, tmp_path)
    before = home.contents
    done = cli("sign", *name(home), *options)
    assert_fails(done, exit_code, *words)
    assert done.out == ""
    assert home.contents == before


def test_what_can_be_signed_without_layers(home, key):
    artifact = push_artifact(home.store, "v1")
    assert cli("sign", *name(home), *key, "--no-dm-verity").exit_code == 0
    assert types(home, artifact) == [NOTARY]
    image = push_image(home.store, "v2", tars(1))
    assert cli("sign", *name(home, "v2"), *key, "--no-manifest-signature").exit_code == 0
    assert types(home, image) == [DM_VERITY]


def test_a_chain_without_its_root_is_enough_for_the_kernel(home, leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    image = push_image(home.store, "v1", tars(1))
    arguments = ("sign", *name(home), "--key", files.key, "--cert", files.leaf)
    assert cli(*arguments, "--no-manifest-signature").exit_code == 0
    assert types(home, image) == [DM_VERITY]


def test_a_tar_is_only_read(home, key, tmp_path):
    import tarfile

    push_image(home.store, "v1", tars(1))
    with tarfile.open(tmp_path / "layout.tar", "w") as tar:
        tar.add(home.store.path, ".")
    before = (tmp_path / "layout.tar").read_bytes()
    done = cli("sign", "--oci-layout", f"{tmp_path}/layout.tar:v1", *key)
    assert_fails(done, 4, "a tar is only read")
    assert (tmp_path / "layout.tar").read_bytes() == before
    assert cli("list", "--oci-layout", f"{tmp_path}/layout.tar:v1").exit_code == 0


def test_a_registry_that_refuses(make_home, key):
    home = make_home("api")
    push_image(home.store, "v1", tars(1))
    before = home.contents
    home.server.fail("POST", "/blobs/uploads/", status(403))
    assert_fails(cli("sign", *name(home), *key), 6, "403", "this login may not do that")
    assert home.contents == before


def test_a_connection_that_breaks_and_a_busy_registry_are_no_failures(make_home, key):
    home = make_home("tag schema")
    image = push_image(home.store, "v1", tars(2, seed=3))
    home.server.fail("GET", image.layers[0].digest, cut_after(100))
    home.server.fail("PUT", "/blobs/uploads/", status(503, Retry_After="0"))
    home.server.fail("PUT", "/manifests/", status(429, Retry_After="0"))
    done = cli("sign", *name(home), *key)
    assert done.exit_code == 0, done.err
    assert types(home, image) == [NOTARY, DM_VERITY]


# signals


EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


class Stall:
    """Stops at a request, or in the middle of the answer, until it is let go."""

    def __init__(self, size=None):
        self.size = size
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, handler):
        if self.size:
            cut_after(self.size)(handler)
        self.reached.set()
        self.go.wait(60)
        handler.close_connection = True


@pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("method", "path", "jobs"),
    [
        ("GET", "layer", 1),
        ("GET", "layer", 4),
        ("GET", "half a layer", 4),
        ("PUT", "/uploads/", 1),
        ("PUT", "/manifests/", 1),
    ],
    ids=["reading", "reading four", "reading on", "pushing a blob", "pushing a manifest"],
)
def test_a_signal_at_a_registry_that_says_nothing(method, path, jobs, number, make_home, key):
    home = make_home("tag schema")
    image = push_image(home.store, "v1", [tars(1)[0], layer_of(8 << 20)])
    stall = Stall(5 << 20 if path.startswith("half") else None)
    path = image.layers[1].digest if path.endswith("layer") else path
    before = home.contents
    home.server.fail(method, path, stall)
    process = subprocess.Popen(
        [*DMSIGN, "sign", *name(home), *map(str, key), "--jobs", str(jobs)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert stall.reached.wait(60)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        stall.go.set()
        process.kill()
        process.communicate()
    assert process.returncode == EXIT_CODES[number], err
    assert "Traceback" not in err
    assert out == ""
    assert home.store.referrers(image.descriptor) == []
    if method == "GET":
        assert home.contents == before


def test_a_signal_while_a_layer_is_hashed(home, key):
    image = push_image(home.store, "v1", [layer_of(64 << 20), *tars(1)])
    before = home.contents
    process = subprocess.Popen(
        [*DMSIGN, "sign", *name(home), *map(str, key), "--jobs", "2", "--threads", "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DMSIGN_IMPL": "portable"},
    )
    threads = Path(f"/proc/{process.pid}/task")
    wait_until(
        lambda: process.poll() is not None or len([*threads.iterdir()]) > 2, "the first layer"
    )
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert out == ""
    assert "Traceback" not in err
    assert home.contents == before
    assert types(home, image) == []
