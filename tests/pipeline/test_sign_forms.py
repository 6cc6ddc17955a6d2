"""Several forms at once, what one has besides signatures, and what takes the former's place."""

from dataclasses import replace

import pytest
from container_images import push_image, tars
from erofs_layers.twins import tree_of
from helpers import veritysetup, write
from pipeline.offline_requests import attach, prepare, sign_all
from pki import DAY, NOW, make_leaf, make_root
from signed_homes import hashed_layers, homes, ours, referrers, sign
from signed_images import altered, verify

from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import ParameterError, RegistryError, StorageError, VerificationError
from dmsign_fast.pipeline.artifact import CREATED, NOTARY_TYPE, blobs_of, read_dm_verity
from dmsign_fast.pipeline.forms import FORMS, Part, form_of
from dmsign_fast.pipeline.layers import Conversion
from dmsign_fast.pipeline.plan import Reuse
from dmsign_fast.trust.verdict import trust_files
from dmsign_fast.verity.superblock import SUPERBLOCK_SIZE, Superblock

INDEX = Recipe.parse("containerd-tar-index")
ALL = tuple(form.name for form in FORMS)
ACL = form_of("acl")


def sign_all_forms(home, leaf, reference="v1", **options):
    (signed,) = sign(home, leaf, reference, **{"forms": ALL, "recipe": INDEX} | options)
    return signed


def types_of(home, image):
    return {kind: len(found) for kind, found in referrers(home, image).items()}


# -- all at once


@homes
def test_all_forms_from_one_reading_of_each_layer(kind, make_home, leaf, monkeypatch):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    seen = hashed_layers(monkeypatch)
    signed = sign_all_forms(home, leaf)
    assert sorted(seen) == sorted(layer.digest for layer in image.layers)
    found = referrers(home, image)
    assert types_of(home, image) == dict.fromkeys(
        [NOTARY_TYPE, *(form.artifact_type for form in FORMS)], 1
    )
    assert signed.artifacts.keys() == set(ALL)
    created = {one.annotations[CREATED] for (one,) in found.values()}
    assert len(created) == 1
    digests = [layer.digest for layer in image.layers]
    signatures = {
        tuple(read_dm_verity(home.store, found[form.artifact_type][0], digests)) for form in FORMS
    }
    assert len(signatures) == 1  # the key was asked once for each layer
    again = sign_all_forms(home, leaf)
    assert (again.added, again.artifacts, again.warnings) == ((), signed.artifacts, ())


def test_they_are_attached_in_one_update(make_home, leaf):
    home = make_home("tag schema")
    image = push_image(home.store, "v1")
    sign_all_forms(home, leaf)
    tag = image.descriptor.digest.referrers_tag
    puts = [one for one in home.server.requests if one.method == "PUT" and one.path.endswith(tag)]
    assert len(puts) == 1


def test_a_form_that_is_missing_is_added(home, leaf):
    image = push_image(home.store, "v1")
    (first,) = sign(home, leaf, recipe=INDEX)
    second = sign_all_forms(home, leaf)
    assert second.artifacts["notation"] == first.dm_verity
    assert len(second.added) == len(FORMS) - 1
    assert types_of(home, image)[FORMS[0].artifact_type] == 1


# -- metadata and hash area


def assembled(home, image, artifact, number, tar, tmp_path):
    """``layer.erofs`` as a node of Azure Container Linux makes it, and the place of the tree."""
    digests = [layer.digest for layer in image.layers]
    parts = blobs_of(ACL, artifact, digests)[digests[number]]
    data = home.read(parts[Part.METADATA]) + tar
    data += bytes(-len(data) % 4096)
    path = tmp_path / f"layer-{number}.erofs"
    path.write_bytes(data + home.read(parts[Part.HASH_FILE]))
    return path, len(data)


@ours
def test_what_azure_container_linux_assembles_is_what_veritysetup_verifies(
    kind, make_home, leaf, tmp_path
):
    home, contents = make_home(kind), tars()
    image = push_image(home.store, "v1", contents)
    signed = sign_all_forms(home, leaf, forms=("acl",))
    (artifact,) = referrers(home, image)[ACL.artifact_type]
    for number, tar in enumerate(contents):
        path, offset = assembled(home, image, artifact, number, tar, tmp_path)
        root_hash = signed.layers[number].root_hash
        data = path.read_bytes()
        superblock = Superblock.unpack(path.read_bytes()[offset : offset + SUPERBLOCK_SIZE])
        assert superblock.data_blocks * 512 <= offset
        assert tree_of(data[: superblock.data_blocks * 512], INDEX.params)[0] == root_hash
        options = ("verify", path, path, root_hash.hex(), "--hash-offset", str(offset))
        assert veritysetup(*options).exit_code == 0
        at = offset // 2
        path.write_bytes(path.read_bytes()[:at] + b"\xff" + path.read_bytes()[at + 1 :])
        assert veritysetup(*options).exit_code != 0


def test_a_blob_is_streamed_and_kept_nowhere(home, leaf, tmp_path, monkeypatch):
    """No piece is large, and no file is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    image = push_image(home.store, "v1", [tars(1)[0] + bytes(8 << 20)])
    push, largest = home.store.push, []

    def watched(descriptor, content):
        if not isinstance(content, bytes):
            largest.append(max(map(len, content())))
        push(descriptor, content)

    monkeypatch.setattr(home.store, "push", watched)
    sign_all_forms(home, leaf, forms=("acl",), conversion=Conversion(lossy=True))
    assert len(largest) == 2
    assert max(largest) <= 1 << 20
    assert [
        path for path in tmp_path.rglob("*") if path.is_file() and "layout" not in str(path)
    ] == []
    assert types_of(home, image)[ACL.artifact_type] == 1


def test_a_full_disk(home, leaf, monkeypatch):
    image = push_image(home.store, "v1")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(StorageError, match=r"cannot create a temporary file in .*free some space"):
        sign_all_forms(home, leaf)
    assert referrers(home, image) == {}


def test_an_image_of_erofs_layers_has_no_tar(home, leaf):
    image = push_image(home.store, "v1", tars(1))

    def native(value):
        value["layers"][0]["mediaType"] = "application/vnd.erofs.layer.v1"

    home.store.tag(altered(image, native), "native")
    with pytest.raises(ParameterError, match="has no tar behind its metadata"):
        sign_all_forms(home, leaf, "native")


def test_reuse_of_metadata_and_hash_areas(home, leaf, monkeypatch):
    image = push_image(home.store, "v1")
    (first,) = sign(home, leaf, recipe=INDEX)
    seen = hashed_layers(monkeypatch)
    again = sign_all_forms(home, leaf, reuse=Reuse())
    assert sorted(seen) == sorted(layer.digest for layer in image.layers)  # nobody has them yet
    assert again.artifacts["notation"] == first.dm_verity
    seen.clear()
    forced = sign_all_forms(home, leaf, reuse=Reuse(), force=True, signing_time=NOW + DAY / 24)
    assert seen == []
    assert {one.reused for one in forced.layers} == {again.artifacts["acl"].digest}
    before, after = (home.store.fetch_manifest(one.artifacts["acl"]) for one in (again, forced))
    published = [one.media_type for one in before.layers if "signature" not in one.media_type]
    assert len(published) == 6
    for one, other in zip(before.layers, after.layers, strict=True):
        assert (one.digest == other.digest) or one.media_type not in published
    push_image(home.store, "v2", tars(4))
    sign_all_forms(home, leaf, "v2", reuse=Reuse())
    assert len(seen) == 1  # the layer that is new


def test_metadata_that_is_wrong_is_not_reused(home, leaf, monkeypatch):
    image = push_image(home.store, "v1", tars(1))
    signed = sign_all_forms(home, leaf, forms=("acl",))
    artifact = home.store.fetch_manifest(signed.dm_verity)
    home.damage(artifact.layers[0], lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    seen = hashed_layers(monkeypatch)
    sign_all_forms(home, leaf, forms=("acl",), reuse=Reuse(), force=True)
    assert seen == [image.layers[0].digest]


# -- in two steps


@ours
def test_prepare_keeps_what_attach_pushes(kind, make_home, leaf, directory, monkeypatch):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    plans, _ = prepare(home, leaf, directory, forms=ALL, recipe=INDEX)
    blobs = {blob.digest for one in plans[0].blobs.values() for blob in one.values()}
    assert {f"{one.encoded}.blob" for one in blobs} <= {path.name for path in directory.iterdir()}
    sign_all(directory, leaf)
    seen = hashed_layers(monkeypatch)
    (signed,) = attach(home, directory)
    assert seen == []
    assert types_of(home, image) == dict.fromkeys(
        [NOTARY_TYPE, *(form.artifact_type for form in FORMS)], 1
    )
    again = sign_all_forms(home, leaf)
    assert (again.added, again.artifacts) == ((), signed.artifacts)


def test_attach_takes_the_former_away(home, leaf, directory):
    image = push_image(home.store, "v1", tars(1))
    first = sign_all_forms(home, leaf, forms=("acl",), signing_time=NOW - DAY / 24)
    prepare(home, leaf, directory, forms=("acl",), recipe=INDEX)
    sign_all(directory, leaf)
    (signed,) = attach(home, directory)
    assert "refuses the image" in signed.warnings[0]
    (signed,) = attach(home, directory, replace_former=True)
    assert [one.digest for one in signed.removed] == [first.dm_verity.digest]
    assert signed.warnings == ()
    assert types_of(home, image)[ACL.artifact_type] == 1


@pytest.mark.parametrize("what", ["changed", "missing", "longer"])
def test_a_file_of_prepare_that_is_another(what, home, leaf, directory):
    image = push_image(home.store, "v1")
    prepare(home, leaf, directory, forms=("acl",), recipe=INDEX)
    sign_all(directory, leaf)
    path = next(directory.glob("*.blob"))
    data = path.read_bytes()
    path.unlink()
    if what != "missing":
        write(path, data[:-1] + b"\xff" if what == "changed" else data + b"\xff")
    with pytest.raises(StorageError if what == "missing" else VerificationError):
        attach(home, directory)
    assert referrers(home, image) == {}


# -- in the place of the former


def test_what_a_node_makes_of_two(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    assert sign_all_forms(home, leaf).warnings == ()
    later = NOW + DAY / 24
    second = sign_all_forms(home, leaf, force=True, signing_time=later, pkcs7_digest="sha256")
    assert sorted(types_of(home, image).values()) == [2] * (1 + len(FORMS))
    about = {
        form.name: [one for one in second.warnings if f"form {form.name}:" in one] for form in FORMS
    }
    assert about["notation"] == []
    assert "refuses the image" in about["acl"][0]
    assert "takes the newest" in about["osguard"][0]
    assert "takes the newest" in about["azurelinux"][0]


@homes
def test_the_former_artifact_goes_when_the_new_one_is_there(kind, make_home, leaf):
    home = make_home(kind)
    image = push_image(home.store, "v1", tars(1))
    first = sign_all_forms(home, leaf)
    before = home.store.referrers(image.descriptor)
    later = NOW + DAY / 24
    second = sign_all_forms(home, leaf, force=True, replace=True, signing_time=later)
    assert {one.digest for one in second.removed} == {
        one.digest for one in first.artifacts.values()
    }
    assert second.warnings == ()
    listed = {one.digest for one in home.store.referrers(image.descriptor)}
    assert {one.digest for one in second.artifacts.values()} <= listed
    assert not {one.digest for one in second.removed} & listed
    # the Notary signature of before stays
    assert first.notary.digest in listed
    assert len(listed) == len(before) + 1


@ours
def test_another_key_or_form_stays(kind, make_home, leaf):
    home = make_home(kind)
    image = push_image(home.store, "v1", tars(1))
    other = make_leaf(make_root(), "Other")
    kept = [
        *sign_all_forms(home, other).artifacts.values(),
        *sign_all_forms(home, leaf, forms=("osguard",)).artifacts.values(),
    ]
    first = sign_all_forms(home, leaf, forms=("acl",))
    second = sign_all_forms(
        home, leaf, forms=("acl",), force=True, replace=True, signing_time=NOW + DAY / 24
    )
    assert [one.digest for one in second.removed] == [first.dm_verity.digest]
    listed = {one.digest for one in home.store.referrers(image.descriptor)}
    assert {one.digest for one in (*kept, second.dm_verity)} <= listed
    assert first.dm_verity.digest not in listed
    assert len(second.warnings) == 1  # the other key's is still there


def test_replace_without_anything_new_removes_the_former(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    sign_all_forms(home, leaf, forms=("acl",), signing_time=NOW)
    sign_all_forms(home, leaf, forms=("acl",), signing_time=NOW + DAY / 24, force=True)
    third = sign_all_forms(home, leaf, forms=("acl",), replace=True)
    assert (third.added, len(third.removed)) == ((), 1)
    assert types_of(home, image)[ACL.artifact_type] == 1


def test_a_renewed_certificate_of_the_same_key(home):
    root = make_root()
    old = make_leaf(root, "Signer", key="RSA-2048")
    new = make_leaf(root, "Signer", key="RSA-2048")
    assert new.certificate.public_key() == old.certificate.public_key()
    assert new.certificate != old.certificate
    image = push_image(home.store, "v1", tars(1))
    sign_all_forms(home, old, forms=("acl",))
    signed = sign_all_forms(home, new, forms=("acl",), replace=True)
    assert len(signed.removed) == 1
    assert types_of(home, image)[ACL.artifact_type] == 1
    trust = trust_files(TrustAnchors((root.certificate,)))
    assert verify(home.store, "v1", trust=trust).verified


def test_another_recipe_replaces_too(home, leaf):
    image = push_image(home.store, "v1", tars(1))
    first = sign_all_forms(home, leaf, forms=("osguard",))
    second = sign_all_forms(
        home, leaf, forms=("osguard",), recipe=replace(INDEX, mkfs_version="1.8.6"), replace=True
    )
    assert [one.digest for one in second.removed] == [first.dm_verity.digest]
    assert types_of(home, image)["application/vnd.oci.mt.pkcs7"] == 1


def test_other_root_hashes_are_what_nodes_refuse(home, leaf):
    push_image(home.store, "v1", tars(2))
    old = {"recipe": replace(INDEX, mkfs_version="1.8.6")}
    first = sign_all_forms(home, leaf, forms=("acl", "osguard"), **old)
    again = {"forms": ("acl", "osguard"), "force": True, "replace": True}
    same = sign_all_forms(home, leaf, **again, **old, signing_time=NOW + DAY / 24)
    assert same.warnings == ()
    other = sign_all_forms(home, leaf, **again, signing_time=NOW + DAY / 12)
    (warning,) = other.warnings  # the nodes of the other form take what is newest
    assert f"{same.artifacts['acl'].digest} had other root hashes for 2 of the layers" in warning
    assert first.layers[0].digest in warning
    assert "nodes of the form acl that have these layers refuse the image" in warning


def test_a_registry_that_deletes_nothing(make_home, leaf):
    home = make_home("api")
    image = push_image(home.store, "v1", tars(1))
    sign_all_forms(home, leaf, forms=("acl",))
    home.server.deletes = 405
    with pytest.raises(RegistryError, match="deletes no manifests"):
        sign_all_forms(
            home, leaf, forms=("acl",), force=True, replace=True, signing_time=NOW + DAY / 24
        )
    assert types_of(home, image)[ACL.artifact_type] == 2
