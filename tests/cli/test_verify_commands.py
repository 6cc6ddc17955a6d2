"""``verify``, ``inspect`` and ``list`` as people and scripts see them."""

import pytest
from container_images import push_image, push_index
from cryptography import x509
from helpers import cli, write
from notation import SCOPE, Notation
from pki import make_leaf, pem
from signed_homes import push_multi
from signed_images import (
    DM_VERITY,
    ROOT,
    STRANGER,
    attach_layers,
    attach_notary,
    sign,
    signatures_of,
)
from verify_commands import COMMANDS, as_json, assert_fails, run

from dmsign_fast.pipeline.artifact import NOTARY_TYPE

FINDINGS = ["integrity", "authenticity", "expiry", "authenticTimestamp", "revocation"]


@pytest.fixture
def notation(tmp_path, monkeypatch):
    """notation's configuration, for both programs."""
    made = Notation(tmp_path / "home")
    made.trust(pem(ROOT.certificate))
    monkeypatch.setenv("NOTATION_CONFIG", str(made.config))
    return made


# -- exit statuses


def test_verified_is_0(signed, root):
    store, made = signed
    done = run("verify", store, "--trust", root)
    assert done.exit_code == 0, done.err
    name = f"{store.path}@{made.manifest.digest}"
    assert done.out == (
        f"Successfully verified signature for {name}: Notary signature and kernel signatures of 3 "
        "layers by CN=Test Signer\n"
    )
    assert done.err == ""
    deep = run("verify", store, "--trust", root, "--deep")
    assert deep.out == done.out.replace("\n", "; the layers give these root hashes\n")


def test_verbose_shows_every_finding(signed, root):
    store, made = signed
    attach_notary(store, made.manifest, entity=STRANGER)
    assert len(run("verify", store, "--trust", root).out.splitlines()) == 1
    done = run("verify", store, "--trust", root, "--deep", "--verbose")
    assert f"  Notary signature {made.notary.digest}: accepted\n" in done.out
    assert f"  dm-verity artifact (form notation) {made.dm_verity.digest}: accepted\n" in done.out
    for layer in made.layers:
        signed_by = f"{layer.root_hash.hex()} of {layer.digest} signed by CN=Test Signer"
        assert f"    {signed_by}, made again\n" in done.out
    assert ": refused: authenticity: " in done.out
    for finding in FINDINGS:
        assert done.out.count(f"    {finding}: ") == 2


def test_who_signed_what(layout, root):
    """Two signers are named for what each has signed; kinds that are not wanted are not named."""
    push_image(layout, "v1")
    sign(layout, "v1", manifest_signature=False)
    other = make_leaf(ROOT, "Other Signer")
    sign(layout, "v1", other, dm_verity=False)
    out = run("verify", layout, "--trust", root).out
    assert out.endswith(
        ": Notary signature by CN=Other Signer, kernel signatures of 3 layers by CN=Test Signer\n"
    )
    out = run("verify", layout, "--trust", root, "--no-dm-verity").out
    assert out.endswith(": Notary signature by CN=Other Signer\n")


def test_a_refused_image_has_the_reasons_of_what_is_refused_alone(layout, root):
    """The layers are signed well; a stranger has signed them too, and that does not matter."""
    image = push_image(layout, "v1")
    (made,) = sign(layout, "v1", manifest_signature=False)
    attach_notary(layout, image.descriptor, entity=STRANGER)
    attach_layers(layout, image.descriptor, signatures_of(made, STRANGER))
    done = run("verify", layout, "--trust", root)
    assert_fails(done, 1, "Notary Project signature")
    first, *reasons = done.out.splitlines()
    assert first == f"Not verified: {layout.path}@{image.descriptor.digest}"
    assert len(reasons) == 1
    assert reasons[0].startswith("  Notary signature sha256:")
    assert " is refused: authenticity: " in reasons[0]


def test_a_reason_that_all_layers_have_is_said_once(layout, root):
    push_image(layout, "v1")
    sign(layout, "v1", STRANGER, manifest_signature=False)
    done = run("verify", layout, "--trust", root, "--no-manifest-signature")
    assert_fails(done, 1)
    _, reason = done.out.splitlines()
    assert "(form notation) sha256:" in reason
    assert " is refused: each of 3 layers: signed by " in reason
    assert done.err.count("signed by") == 1


def test_not_verified_is_1(layout, root):
    image = push_image(layout, "v1")
    attach_notary(layout, image.descriptor, entity=STRANGER)
    done = run("verify", layout, "--trust", root)
    words = "no Notary Project signature of", "valid and trusted: authenticity: signed by"
    words += ("it has no dm-verity artifact: sign its layers too, or give --no-dm-verity",)
    assert_fails(done, 1, *words, image.descriptor.digest)
    assert "Not verified: " in done.out
    assert "Successfully" not in done.out
    assert "Strange Root" in done.out
    assert_fails(run("verify", layout, "--trust", root, "--output", "json"), 1)


@pytest.mark.parametrize(
    "options",
    [
        ("--no-dm-verity", "--no-manifest-signature"),
        ("--scope", SCOPE),
        ("--trust", "no such option"),
        ("--recipe", "unknown"),
        ("--user-metadata", "no value"),
    ],
)
def test_usage_is_2(options, signed, root):
    if options[0] == "--trust":
        assert_fails(run("verify", signed[0], "--trust"), 2)
    else:
        assert_fails(run("verify", signed[0], "--trust", root, *options), 2)


def test_what_is_no_image_or_no_certificate_is_3(signed, root):
    store, _ = signed
    assert_fails(run("verify", store, "--trust", write(root, b"no certificate")), 3, "root.pem")
    write(store.path / "index.json", b'{"schemaVersion":2,"manifests":[],"manifests":[]}')
    for command in COMMANDS:
        options = ("--trust", root) if command == "verify" else ()
        assert_fails(run(command, store, *options), 3)


def test_what_cannot_be_read_is_4(signed, root):
    store, _ = signed
    assert_fails(run("verify", store, "--trust", root, tag="v2"), 4, "there is no tag v2")
    assert_fails(run("verify", store, "--trust", root.parent / "absent.pem"), 4)
    for command in ("inspect", "list"):
        assert_fails(run(command, store, tag="v2"), 4, "there is no tag v2")


def test_a_registry_that_does_not_answer_is_6(root, serve):
    for command in COMMANDS:
        options = ("--trust", root) if command == "verify" else ()
        assert_fails(cli(command, "127.0.0.1:1/app:v1", *options), 6, "127.0.0.1:1")
    server = serve()
    assert_fails(cli("verify", f"{server.host}/app:v1", "--trust", root), 4, "v1")


def test_nothing_to_verify_is_7(layout, root):
    image = push_image(layout, "v1")
    assert_fails(run("verify", layout, "--trust", root), 7, "nothing to verify", "has no Notary")
    artifact_type = {"artifactType": "application/vnd.example.sbom"}
    attach_notary(layout, image.descriptor, None, lambda one: one.update(artifact_type))
    assert_fails(run("verify", layout, "--trust", root), 7, "nothing to verify")
    done = run("verify", layout, "--trust", root, "--output", "json")
    assert done.exit_code == 7
    assert as_json(done)["images"][0]["missing"] == ["notary", "dm-verity"]


# -- trust


def test_by_the_trust_policy_as_notation(signed, notation):
    store, made = signed
    done = run("verify", store, "--scope", SCOPE)
    assert done.exit_code == 0, done.err
    reference = f"{store.path}@{made.manifest.digest}"
    assert notation("verify", "--oci-layout", reference, "--scope", SCOPE).exit_code == 0
    assert_fails(run("verify", store), 2, "give --scope, such as local/app")
    assert_fails(run("verify", store, "--scope", "nothing"), 2, "full name of a repository")
    assert_fails(cli("verify", "localhost:1/app:v1", "--scope", SCOPE), 2, "--scope")


def test_a_path_is_never_taken_for_a_scope(signed, notation, monkeypatch):
    """A layout from somewhere, in a directory that is called like a repository."""
    store, _ = signed
    monkeypatch.chdir(store.path.parent)
    (store.path.parent / "registry.example").mkdir()
    store.path.rename("registry.example/app")
    done = cli("verify", "--oci-layout", "registry.example/app:v1")
    assert_fails(done, 2, "--scope")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trustStores": ["ca:absent"]}, (4, "ca/absent")),
        ({"registryScopes": ["local/other"]}, (1, "no statement", SCOPE)),
        ({"trustStores": ["absent"]}, (3, "trustpolicy.json", "ca:NAME")),
        (None, (4, "there is no trust policy")),
    ],
)
def test_a_configuration_that_does_not_fit(change, words, signed, notation):
    if change is None:
        (notation.config / "trustpolicy.json").unlink()
    else:
        notation.trust(pem(ROOT.certificate), policy=change)
    assert_fails(run("verify", signed[0], "--scope", SCOPE), *words)


def test_what_the_policy_skips_is_not_called_verified(signed, notation):
    store, made = signed
    skip = {"level": "skip"}
    none = {"trustStores": [], "trustedIdentities": []}
    notation.trust(policy={"signatureVerification": skip} | none)
    done = run("verify", store, "--scope", SCOPE, "--no-dm-verity")
    assert done.exit_code == 0
    assert done.out.startswith("Not verified, since the trust policy skips it: ")
    value = as_json(run("verify", store, "--scope", SCOPE, "--no-dm-verity", "--output", "json"))
    assert not value["verified"]
    assert (value["images"][0]["verified"], value["images"][0]["skipped"]) == (False, True)
    done = run("verify", store, "--scope", SCOPE)
    assert_fails(done, 1, "no dm-verity artifact")
    assert "level skip, trusts no certificate" in done.out
    assert made.notary.digest not in done.out


def test_an_index_that_the_policy_skips_needs_no_choice(layout, notation):
    """As with notation; layers are of its manifests, and those must be named."""
    index = push_multi(layout)[0]
    none = {"trustStores": [], "trustedIdentities": []}
    notation.trust(policy={"signatureVerification": {"level": "skip"}} | none)
    reference = f"{layout.path}@{index.descriptor.digest}"
    theirs = notation("verify", "--oci-layout", reference, "--scope", SCOPE)
    assert theirs.exit_code == 0, theirs.err
    done = run("verify", layout, "--scope", SCOPE, "--no-dm-verity")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.count("Not verified, since the trust policy skips it") == 1
    assert_fails(run("verify", layout, "--scope", SCOPE), 2, "give --platform")


def test_revocation_that_is_asked_for_counts(layout, root):
    """Where it cannot be known, that is no yes."""
    point = x509.DistributionPoint(
        [x509.UniformResourceIdentifier("http://127.0.0.1:1/crl")], None, None, None
    )
    push_image(layout, "v1")
    leaf = make_leaf(ROOT, "revocable", extensions=((x509.CRLDistributionPoints([point]), False),))
    sign(layout, "v1", leaf)
    assert run("verify", layout, "--trust", root).exit_code == 0
    done = run("verify", layout, "--trust", root, "--revocation")
    assert_fails(done, 1)
    assert done.out.count("http://127.0.0.1:1/crl") >= 2


# -- JSON


def test_verify_as_json(signed, root):
    store, made = signed
    attach_notary(store, made.manifest, entity=STRANGER)
    done = run("verify", store, "--trust", root, "--deep", "--output", "json")
    value = as_json(done)
    assert done.exit_code == 0
    assert set(value) == {"reference", "verified", "images", "bytes", "seconds"}
    assert value["bytes"] == sum(one.size for one in made.layers)
    (image,) = value["images"]
    assert (value["verified"], image["verified"], image["skipped"]) == (True, True, False)
    assert (image["wanted"], image["missing"]) == (["notary", "dm-verity"], [])
    assert image["manifest"] == made.manifest.digest
    stranger = next(one for one in image["referrers"] if not one["accepted"])
    found = {one["digest"]: one for one in image["referrers"]}
    notary, layers = found[made.notary.digest], found[made.dm_verity.digest]
    for one in (notary, stranger):
        assert [each["validation"] for each in one["signature"]["findings"]] == FINDINGS
        assert all(each["evidence"] for each in one["signature"]["findings"])
        assert one["signature"]["target"]["digest"] == made.manifest.digest
    assert notary["signature"]["signer"]["subject"] == "CN=Test Signer"
    assert stranger["problem"].startswith("authenticity: ")
    assert layers["recipe"]["name"] == "containerd"
    for layer, one in zip(layers["layers"], made.layers, strict=True):
        assert layer["layer"] == one.digest
        assert layer["root_hash"] == one.root_hash.hex()
        assert (layer["recomputed"], layer["problem"]) == (True, None)
        assert [each["subject"] for each in layer["signature"]["path"]] == [
            "CN=Test Signer",
            "CN=Test Intermediate",
            "CN=Test Root",
        ]


def test_list_shows_every_referrer(signed):
    store, made = signed
    image = store.resolve("v1")
    sbom = {"artifactType": "application/vnd.example.sbom"}
    other = attach_notary(store, image.descriptor, None, lambda one: one.update(sbom))
    value = as_json(run("list", store, "--output", "json"))
    (found,) = value["images"]
    assert found["manifest"] == image.descriptor.digest
    assert {one["digest"]: one["artifactType"] for one in found["referrers"]} == {
        made.notary.digest: NOTARY_TYPE,
        made.dm_verity.digest: DM_VERITY,
        other.descriptor.digest: sbom["artifactType"],
    }
    lines = run("list", store).out.splitlines()
    assert lines[0] == f"{store.path}@{image.descriptor.digest}"
    assert lines[-1].startswith("└── sha256:")
    assert len(lines) == 4
    push_image(store, "v2", seed=2)
    assert "nothing refers to it" in run("list", store, tag="v2").out


def test_inspect_shows_a_tree(signed):
    store, made = signed
    done = run("inspect", store)
    assert done.exit_code == 0
    for text in (
        made.manifest.digest,
        f"── {made.notary.digest}",
        f"── {made.dm_verity.digest}",
        "algorithm: ES256",
        "subject: CN=Test Signer",
        "mkfs-version: 1.9.4",
        f"root_hash: {made.layers[0].root_hash.hex()}",
    ):
        assert text in done.out
    value = as_json(run("inspect", store, "--output", "json"))
    assert {one["digest"] for one in value["images"][0]["signatures"]} == {
        one.digest for one in made.added
    }
    push_image(store, "v2", seed=2)
    assert "no signatures" in run("inspect", store, tag="v2").out


def test_an_index(signed, root):
    store, _ = signed
    push_index(store, "all", [(store.resolve("v1"), "linux/amd64")])
    done = run("verify", store, "--trust", root, tag="all")
    assert_fails(done, 2, "--platform", "--recursive", "linux/amd64")
    options = ("--trust", root, "--platform", "linux/amd64")
    assert run("verify", store, *options, tag="all").exit_code == 0
    assert_fails(run("verify", store, "--trust", root, "--recursive", tag="all"), 1, "Notary")
    options = ("--trust", root, "--recursive", "--no-manifest-signature")
    assert run("verify", store, *options, tag="all").exit_code == 0
    push_index(store, "none", [])
    assert_fails(run("verify", store, *options, tag="none"), 7, "no layers")
