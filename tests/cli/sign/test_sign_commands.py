"""``dmsign-fast sign`` and ``list`` as people use them, before the real notation and alone."""

import json
import os
import pty
import re
import subprocess
import termios

import pytest
from container_images import push_attestation, push_image, push_index, tars
from helpers import DMSIGN, Done, cli, write
from pki import DAY, make_intermediate, make_leaf, make_root, pem
from real_registries import REAL_REGISTRIES
from sign_commands import DM_VERITY, NOTARY, OSGUARD, assert_fails, judge, listed, name, only, types
from tsa import Authority, make_tsa
from tsa import serve as serve_tsa

from dmsign_fast import __version__
from dmsign_fast.envelope.notary import parse_envelope

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
    signed, first, second = done.out.splitlines()
    by = "3 layers and the manifest by CN=Test Signer"
    assert signed == f"Successfully signed {place}@{digest}: {by}"
    assert first == f"Pushed {place}@{dm_verity}: dm-verity artifact (form notation) of {digest}"
    assert second == f"Pushed {place}@{notary}: Notary signature of {digest}"
    note, summary = done.err.splitlines()
    assert note == (f"{place}:v1 names a tag, which may move: its digest is what is signed")
    size = sum(one.size for one in image.layers)
    pattern = r"signed layers of \d+ bytes in [\d.]+ s: hash [\d.]+ s, sign [\d.]+ s, push [\d.]+ s"
    assert re.fullmatch(pattern, summary)
    assert summary.startswith(f"signed layers of {size} bytes")
    again = cli("sign", *name(home, digest), *key)
    assert again.out == f"Already signed {place}@{digest}: {by}\n"
    assert "names a tag" not in again.err
    assert cli("sign", *name(home), *key, "--quiet") == Done(0, "", "")
    for one in (done, again):
        assert "\r" not in one.out + one.err  # no bar where nobody looks on


def test_verbose_prints_the_root_hashes_too(home, key):
    image = push_image(home.store, "v1")
    *roots, _, _, _ = cli("sign", *name(home), *key, "--verbose").out.splitlines()
    assert [line.split("  ")[1] for line in roots] == [layer.digest for layer in image.layers]
    assert all(len(bytes.fromhex(line.split("  ")[0])) == 32 for line in roots)


def test_stages_add_up(home, key):
    """Also where layers are read at the same time."""
    push_image(home.store, "v1")
    found = json.loads(cli("sign", *name(home), *key, "--jobs", "3", "--output", "json").out)
    assert found["stages"].keys() == {"hash", "sign", "push"}
    assert sum(found["stages"].values()) == pytest.approx(found["seconds"], abs=1e-3)


@pytest.mark.parametrize("kind", ["layout", "api"])
def test_json(kind, make_home, key, leaf):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    done = cli("sign", *name(home), *key, "--output", "json", "--recipe", "osguard@1.8.6")
    found = json.loads(done.out)
    assert found.keys() == {
        *("reference", "images", "recipe", "signer", "bytes", "seconds", "stages")
    }
    assert found["reference"] == name(home)[-1]
    assert found["recipe"]["name"] == "osguard"
    assert found["recipe"]["mkfs-version"] == "1.8.6"
    assert found["signer"] == leaf.certificate.subject.rfc4514_string()
    assert found["bytes"] == sum(layer.size for layer in image.layers)
    (one,) = found["images"]
    assert one.keys() == {
        *("manifest", "media_type", "dm_verity_artifact", "notary_signature"),
        *("dm_verity_artifacts", "added", "removed", "warnings", "layers", "seconds"),
    }
    assert one["manifest"] == image.descriptor.digest
    assert one["media_type"] == image.descriptor.media_type
    assert one["notary_signature"] == only(home, image, NOTARY).digest
    assert one["dm_verity_artifact"] == only(home, image, DM_VERITY).digest
    assert one["dm_verity_artifacts"] == {"notation": one["dm_verity_artifact"]}
    assert one["added"] == [one["dm_verity_artifact"], one["notary_signature"]]
    assert one["removed"] == one["warnings"] == []
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
    signed = cli("sign", *name(home), *key, *options, "--threads", "1", "--memory", "1M", "-v")
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
    done = cli(*again, "--reuse", "--verbose")
    assert done.exit_code == 0, done.err
    one, two, three, signed, *_ = done.out.splitlines()
    assert ": 3 layers (2 reused) and the manifest by " in signed
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
    done = cli(*sign, "--reuse", "--reuse-cert", other.leaf, "--force", "--verbose")
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
        f"├── {dm_verity.digest} {DM_VERITY} (notation, containerd@1.9.4)",
        f"└── {notary.digest} {NOTARY}",
    ]
    assert json.loads(cli("list", *name(home), "--output", "json").out) == {
        "reference": f"{place}:v1",
        "images": [
            {
                "manifest": digest,
                "referrers": [dm_verity.to_json(), notary.to_json()],
                "passed_over": [],
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
