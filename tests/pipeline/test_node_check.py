"""Which nodes would take an image, by the artifact that each reads."""

import json

import pytest
from container_images import push_image, push_index, tars
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from helpers import cli, write
from helpers_pkcs7 import signer_of
from pki import DAY, NOW, make_leaf, make_root, pem
from signed_images import altered, attach_raw, remove, verify

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import ParameterError
from dmsign_fast.oci.layout import Layout
from dmsign_fast.pipeline.forms import FORMS, form_of
from dmsign_fast.pipeline.node_check import node_problems
from dmsign_fast.pipeline.nodes import NODES, node_of
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image
from dmsign_fast.trust.verdict import trust_files

INDEX = Recipe.parse("containerd-tar-index")
ALL = tuple(form.name for form in FORMS)
ROOT = make_root()
TRUST = trust_files(TrustAnchors((ROOT.certificate,)))
CODE = ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),)
LEAF = make_leaf(ROOT, "Code Signer", key="RSA-2048", extensions=CODE)
LATER = NOW + DAY / 24


@pytest.fixture
def layout(tmp_path):
    return Layout.create(tmp_path / "layout")


def sign(store, reference="v1", entity=LEAF, **options):
    options = {"recipe": INDEX, "forms": ALL} | options
    return sign_image(store, reference, signer_of(entity), SignOptions(**options))[0]


def problems(store, name, reference="v1", trust=TRUST):
    return node_problems(store, verify(store, reference, trust=trust), node_of(name))


def test_each_takes_what_has_all_forms_but_stock_containerd(layout):
    push_image(layout, "v1")
    sign(layout)
    assert {node.name: problems(layout, node.name) == () for node in NODES} == {
        "acl": True,
        "azurelinux": True,
        "osguard": True,
        "containerd": False,
    }
    assert "passes no signature to the kernel" in problems(layout, "containerd")[0]


@pytest.mark.parametrize("name", [node.name for node in NODES if node.form])
def test_a_form_that_is_not_there(name, layout):
    push_image(layout, "v1")
    sign(layout, forms=("notation",))
    assert problems(layout, name) == (
        f"there is no artifact of the form {name}: sign with --artifact {name}",
    )


@pytest.mark.parametrize(
    ("key", "extensions", "options", "words"),
    [
        ("RSA-3072", CODE, {}, "by a key RSA-2048, not RSA-3072"),
        ("EC-256", CODE, {}, "by a key RSA-2048, not EC-256"),
        ("RSA-2048", CODE, {"pkcs7_digest": "sha512"}, "with sha256, not sha512"),
        ("RSA-2048", (), {}, "Code Signing"),
        ("RSA-2048", CODE, {"certificates": False}, "Code Signing"),
    ],
)
def test_what_azure_linux_checks_itself(key, extensions, options, words, layout):
    leaf = make_leaf(ROOT, f"Signer {key}", key=key, extensions=extensions)
    push_image(layout, "v1", tars(1))
    sign(layout, entity=leaf, manifest_signature=False, **options)
    # without certificates the signer's own is what can be trusted
    trust = trust_files(TrustAnchors((leaf.certificate,)))
    verdict = verify(layout, "v1", trust=trust, manifest_signature=False)
    assert verdict.verified
    (problem,) = node_problems(layout, verdict, node_of("azurelinux"))
    assert words in problem
    assert node_problems(layout, verdict, node_of("acl")) == ()


def test_two_artifacts(layout):
    """Azure Container Linux refuses them, the others take the newest, be it a bad one."""
    push_image(layout, "v1", tars(1))
    sign(layout)
    stranger = make_leaf(make_root("Strange Root"), "Stranger", key="RSA-2048", extensions=CODE)
    sign(layout, entity=stranger, manifest_signature=False, signing_time=LATER, force=True)
    assert problems(layout, "acl") == (
        "there are 2 artifacts of the form acl, and it refuses more than one: sign with --replace, "
        "or delete others",
    )
    for name in ("azurelinux", "osguard"):
        (problem,) = problems(layout, name)
        assert "the artifact that it takes" in problem
        assert "not trusted" in problem
    sign(layout, signing_time=LATER + DAY / 24, force=True)
    assert problems(layout, "azurelinux") == problems(layout, "osguard") == ()


def test_an_artifact_without_a_time_is_the_oldest(layout):
    push_image(layout, "v1", tars(1))
    good = sign(layout, forms=("osguard",))
    stranger = make_leaf(make_root("Strange Root"), "Stranger")
    bad = sign(layout, entity=stranger, forms=("osguard",), manifest_signature=False, force=True)
    timeless = altered(
        layout.fetch_manifest(bad.dm_verity),
        lambda value: value["annotations"].pop("org.opencontainers.image.created"),
    )
    remove(layout, bad.dm_verity)
    layout.attach([timeless])
    assert problems(layout, "osguard") == ()
    remove(layout, good.dm_verity)
    assert problems(layout, "osguard") != ()


def test_a_copy_of_the_signature_that_is_missing(layout):
    push_image(layout, "v1", tars(1))
    signed = sign(layout, forms=("osguard",))

    def change(value):
        value["layers"][0]["annotations"].pop("image.layer.signature")

    changed = altered(layout.fetch_manifest(signed.dm_verity), change)
    remove(layout, signed.dm_verity)
    layout.attach([changed])
    (problem,) = problems(layout, "osguard")
    assert "from an annotation 'image.layer.signature'" in problem


def test_a_record_of_another_layout(layout):
    push_image(layout, "v1", tars(1))
    signed = sign(layout, forms=("acl",), manifest_signature=False)

    def change(value):
        value["annotations"] |= {
            "dmsign-fast.recipe.layout": "full",
            "dmsign-fast.recipe.name": "containerd",
        }

    changed = altered(layout.fetch_manifest(signed.dm_verity), change)
    remove(layout, signed.dm_verity)
    layout.attach([changed])
    verdict = verify(layout, "v1", trust=TRUST, manifest_signature=False)
    (problem,) = node_problems(layout, verdict, node_of("acl"))
    assert "for images of the layout tar-index" in problem


def test_a_manifest_that_cannot_be_read(layout):
    image = push_image(layout, "v1", tars(1))
    subject = json.dumps(image.descriptor.to_json())
    raw = '{"schemaVersion":2,"layers":[],"subject":' + subject + "}"
    attach_raw(layout, raw.encode(), form_of("acl").artifact_type)
    assert problems(layout, "acl") != ()


def test_an_index_has_no_layers_to_take(layout):
    image = push_image(layout, "v1", tars(1))
    push_index(layout, "all", [(image, "linux/amd64")])
    sign(layout, "all", recursive=True)
    verdict = verify(layout, layout.resolve("v1").descriptor.digest, trust=TRUST)
    assert node_problems(layout, verdict, node_of("acl")) == ()


def test_nodes_have_names():
    with pytest.raises(ParameterError, match="use one of acl, azurelinux, containerd, osguard"):
        node_of("other")
    assert {node.form for node in NODES} - {None} <= {form.name for form in FORMS}


# -- on the command line


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "root.pem", pem(ROOT.certificate))


def run(store, root, *options):
    return cli("verify", "--oci-layout", f"{store.path}:v1", "--trust", root, *options)


def test_a_wanted_form(layout, root):
    push_image(layout, "v1")
    sign(layout, forms=("notation", "acl"))
    done = run(layout, root, "--artifact", "acl", "--artifact", "notation", "-v")
    assert done.exit_code == 0, done.err
    assert "\n  dm-verity artifact (form acl) sha256:" in done.out
    done = run(layout, root, "--artifact", "acl", "--artifact", "azurelinux")
    assert done.exit_code == 1
    assert "no dm-verity artifact of the form azurelinux" in done.err
    found = json.loads(run(layout, root, "--artifact", "azurelinux", "--output", "json").out)
    assert found["images"][0]["missing"] == ["dm-verity azurelinux"]
    assert run(layout, root, "--artifact", "acl", "--no-dm-verity").exit_code == 2


def test_for_a_node(layout, root):
    push_image(layout, "v1")
    sign(layout, forms=("notation", "acl"))
    done = run(layout, root, "--for", "acl")
    assert (done.exit_code, "A node acl would take it\n" in done.out) == (0, True)
    done = run(layout, root, "--for", "azurelinux")
    assert done.exit_code == 1
    assert "A node azurelinux would not take it:\n  there is no artifact" in done.out
    assert "would not take" in done.err
    done = run(layout, root, "--for", "azurelinux", "--output", "json")
    node = json.loads(done.out)["images"][0]["node"]
    assert (node["name"], node["takes"], len(node["problems"])) == ("azurelinux", False, 1)
    assert run(layout, root, "--for", "acl", "--no-dm-verity").exit_code == 2


def test_list_and_inspect_name_forms(layout):
    push_image(layout, "v1")
    sign(layout)
    said = cli("list", "--oci-layout", f"{layout.path}:v1").out
    assert all(f"{form.artifact_type} ({form.name}, {INDEX.name}@" in said for form in FORMS)
    done = cli("inspect", "--oci-layout", f"{layout.path}:v1", "--output", "json")
    (image,) = json.loads(done.out)["images"]
    artifacts = [one for one in image["signatures"] if one["kind"] == "dm-verity"]
    assert sorted(one["form"] for one in artifacts) == sorted(ALL)
    assert len({one["created"] for one in artifacts}) == 1
    assert all("error" not in one for one in artifacts)
