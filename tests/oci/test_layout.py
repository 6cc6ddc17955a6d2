import io
import json
import os
import tarfile

import pytest
from helpers import flip, noise, program, run
from images import SIGNATURE, TAR, push_image, push_signature

from dmsign_fast.errors import (
    FormatError,
    NotFoundError,
    ParameterError,
    StorageError,
    VerificationError,
)
from dmsign_fast.oci.descriptor import Descriptor, Digest
from dmsign_fast.oci.layout import REF_NAME, Layout
from dmsign_fast.oci.manifest import OCI_MANIFEST, make_index


@pytest.fixture
def layout(layout_path):
    return Layout.create(layout_path)


def index_of(layout):
    return json.loads((layout.path / "index.json").read_text())


def blob_path(layout, digest):
    return layout.path / "blobs" / digest.replace(":", "/")


def tar_of(layout, path, change=None):
    with tarfile.open(path, "w") as tar:
        for file in sorted(layout.path.rglob("*")):
            tar.add(file, f"./{file.relative_to(layout.path)}", recursive=False)
        if change:
            change(tar)
    return path


def test_an_image_and_its_referrers(layout):
    image = push_image(layout, "v1")
    assert layout.resolve("v1") == layout.resolve(image.descriptor.digest) == image
    assert layout.fetch_manifest(image.descriptor) == image
    assert b"".join(layout.fetch(image.layers[0]))
    assert layout.exists(image.layers[0])
    assert not layout.exists(Descriptor.of(b"other", TAR))
    signatures = [
        push_signature(layout, image.descriptor),
        push_signature(layout, image.descriptor, artifact_type="application/vnd.other"),
    ]
    layout.attach(signatures)
    assert layout.referrers(image.descriptor) == [one.referrer for one in signatures]
    assert layout.referrers(image.descriptor, SIGNATURE) == [signatures[0].referrer]
    assert layout.referrers(signatures[0].descriptor) == []


def test_what_is_attached_twice_is_listed_once(layout):
    image = push_image(layout, "v1")
    signature = push_signature(layout, image.descriptor)
    layout.attach([signature])
    before = index_of(layout)
    layout.attach([signature, signature])
    assert index_of(layout) == before


def test_a_referrer_has_an_entry_without_a_tag(layout):
    image = push_image(layout, "v1")
    signature = push_signature(layout, image.descriptor)
    layout.attach([signature])
    assert index_of(layout)["manifests"] == [
        image.descriptor.to_json() | {"annotations": {REF_NAME: "v1"}},
        signature.descriptor.to_json() | {"artifactType": SIGNATURE},
    ]


def test_references_are_those_of_all_manifests_that_are_listed(layout):
    assert layout.references() == []
    first, second = (push_image(layout, "v1", seed) for seed in (1, 2))
    layout.tag(second, "v2")
    signature = push_signature(layout, first.descriptor)
    layout.attach([signature])
    expected = [second.descriptor.digest, signature.descriptor.digest]
    assert layout.references() == expected


def test_a_tag_moves(layout):
    push_image(layout, "v1")
    second = push_image(layout, "v1", seed=2)
    assert layout.resolve("v1") == second
    assert len(index_of(layout)["manifests"]) == 1


def test_what_refers_to_nothing_is_not_attached(layout):
    image, other = push_image(layout), push_image(layout, seed=2)
    with pytest.raises(ParameterError, match="refers to nothing"):
        layout.attach([push_signature(layout, image.descriptor), other])
    assert layout.referrers(image.descriptor) == []


def test_content_other_than_its_descriptor_is_not_stored(layout):
    for data in (b"goof", b"goo", b"good!"):
        with pytest.raises(VerificationError):
            layout.push(Descriptor.of(b"good", TAR), data)
    assert [file for file in (layout.path / "blobs").rglob("*") if file.is_file()] == []


def test_a_damaged_blob_is_replaced_by_a_good_one(layout):
    good = Descriptor.of(b"good", TAR)
    layout.push(good, b"good")
    for damaged in (b"baad", b"", b"goodgood"):
        blob_path(layout, good.digest).write_bytes(damaged)
        layout.push(good, b"good")
        assert list(layout.fetch(good)) == [b"good"]


@pytest.mark.parametrize("where", [0, 500, -1])
def test_damage_is_found(layout, where):
    image = push_image(layout, "v1")
    for described in (image.layers[0], image.config, image.descriptor):
        path = blob_path(layout, described.digest)
        flip(path, where % described.size)
        with pytest.raises(VerificationError, match="another digest"):
            list(layout.fetch(described))
        flip(path, where % described.size)
    flip(blob_path(layout, image.descriptor.digest), where % image.descriptor.size)
    for reference in ("v1", image.descriptor.digest):
        with pytest.raises(VerificationError):
            layout.resolve(reference)


def test_what_is_not_there_is_not_found(layout):
    absent = Digest.of(b"absent")
    for act in (
        lambda: layout.resolve("v2"),
        lambda: layout.resolve(absent),
        lambda: list(layout.fetch(Descriptor("a/b", absent, 6))),
        lambda: layout.fetch_manifest(Descriptor(OCI_MANIFEST, absent, 6)),
    ):
        with pytest.raises(NotFoundError):
            act()


def test_a_tag_of_two_manifests_is_refused(layout):
    image, other = push_image(layout, "v1"), push_image(layout, "v2", seed=2)
    index = index_of(layout)
    index["manifests"][1]["annotations"] = {REF_NAME: "v1"}
    (layout.path / "index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match="names 2 manifests"):
        layout.resolve("v1")
    assert layout.resolve(other.descriptor.digest) == other
    assert layout.resolve(image.descriptor.digest) == image


def test_an_index_that_lists_what_is_elsewhere_still_has_its_referrers(layout):
    image = push_image(layout, "v1")
    other = push_image(layout, "v2", seed=2)
    signature = push_signature(layout, image.descriptor)
    layout.attach([signature])
    blob_path(layout, other.descriptor.digest).unlink()
    assert layout.referrers(image.descriptor) == [signature.referrer]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', FormatError),
        ("oci-layout", b"", FormatError),
        ("oci-layout", None, NotFoundError),
        ("index.json", None, NotFoundError),
        ("index.json", b"{}", FormatError),
        ("index.json", b" " * ((4 << 20) + 1), FormatError),
        ("index.json", b'{"schemaVersion":2,"config":{}}', FormatError),
    ],
)
def test_what_is_no_layout_is_refused(layout, name, data, error):
    path = layout.path / name
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(error, match=str(layout.path)):
        Layout(layout.path).resolve("v1")


def test_a_directory_with_other_files_is_not_made_a_layout(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFoundError, match="is not an OCI image layout"):
        Layout.create(tmp_path)
    with pytest.raises(NotFoundError):
        Layout(tmp_path / "absent")


@pytest.mark.parametrize("what", ["blob", "directory", "index.json", "fifo"])
def test_links_out_of_the_layout_are_not_followed(layout, tmp_path, what):
    image = push_image(layout, "v1")
    path = {
        "blob": blob_path(layout, image.layers[0].digest),
        "fifo": blob_path(layout, image.layers[0].digest),
        "directory": layout.path / "blobs/sha256",
        "index.json": layout.path / "index.json",
    }[what]
    path.rename(tmp_path / "outside")
    if what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match=str(layout.path)):
        list(layout.fetch(layout.resolve("v1").layers[0]))


def test_a_tar_is_read(layout, tmp_path):
    image = push_image(layout, "v1", size=3 << 20)
    signature = push_signature(layout, image.descriptor)
    layout.attach([signature])
    with Layout(tar_of(layout, tmp_path / "layout.tar")) as tar:
        assert tar.resolve("v1") == image
        assert tar.referrers(image.descriptor) == [signature.referrer]
        assert b"".join(tar.fetch(image.layers[0])) == b"".join(layout.fetch(image.layers[0]))
        for act in (
            lambda: tar.push(image.layers[0], b""),
            lambda: tar.tag(image, "v2"),
            lambda: tar.attach([signature]),
        ):
            with pytest.raises(StorageError, match="a tar is only read"):
                act()


def add(name, data=b"{}", **fields):
    def change(tar):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for field, value in fields.items():
            setattr(member, field, value)
        tar.addfile(member, io.BytesIO(data))

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (add("../evil"), "outside of the layout"),
        (add("/etc/passwd"), "outside of the layout"),
        (add("blobs/../../evil"), "outside of the layout"),
        (add("index.json"), "two members 'index.json'"),
        (add(".//blobs/./x"), None),
    ],
)
def test_hostile_names_in_a_tar_are_refused(layout, tmp_path, change, why):
    push_image(layout, "v1")
    path = tar_of(layout, tmp_path / "layout.tar", change)
    if why is None:
        Layout(path).close()
        return
    with pytest.raises(FormatError, match=why):
        Layout(path)


def test_links_in_a_tar_are_not_followed(layout, tmp_path):
    blob = Descriptor.of(b"{}", TAR)
    (layout.path / "blobs/sha256").mkdir(parents=True)
    name = f"blobs/sha256/{blob.digest.encoded}"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        link = add(name, b"", type=kind, linkname="oci-layout")
        with (
            Layout(tar_of(layout, tmp_path / "layout.tar", link)) as tar,
            pytest.raises(StorageError, match="not a regular file"),
        ):
            list(tar.fetch(blob))


def test_a_tar_that_is_none_or_compressed_or_cut_is_refused(layout, tmp_path):
    push_image(layout, "v1", size=3 << 20)
    path = tar_of(layout, tmp_path / "layout.tar")
    whole = path.read_bytes()
    path.write_bytes(noise(5000))
    with pytest.raises(FormatError, match="is not the tar of a layout"):
        Layout(path)
    with tarfile.open(path, "w:gz") as tar:
        add("oci-layout")(tar)
    with pytest.raises(FormatError, match="decompress it"):
        Layout(path)
    path.write_bytes(whole[: 1 << 20])
    with pytest.raises((FormatError, NotFoundError, VerificationError)), Layout(path) as cut:
        list(cut.fetch(cut.resolve("v1").layers[0]))


def test_real_programs_read_what_we_write(layout, tmp_path):
    image = push_image(layout, "v1", size=100_000)
    layout.attach([push_signature(layout, image.descriptor)])
    skopeo = [program("skopeo"), "--insecure-policy"]
    raw = run(*skopeo, "inspect", "--raw", f"oci:{layout.path}:v1")
    assert raw.out.encode() == image.raw
    copied = run(
        *skopeo, "copy", "--preserve-digests", f"oci:{layout.path}:v1", f"oci:{tmp_path}/copy:v2"
    )
    assert copied.exit_code == 0, copied.err
    assert Layout(tmp_path / "copy").resolve("v2") == image
    assert run(program("umoci"), "ls", "--layout", layout.path).out.split() == ["v1"]
    unpacked = run(
        program("umoci"), "unpack", "--rootless", "--image", f"{layout.path}:v1", tmp_path / "root"
    )
    assert unpacked.exit_code == 0, unpacked.err
    assert (tmp_path / "root/rootfs/file").read_bytes() == noise(100_000)


def test_real_programs_keep_what_we_attached(layout):
    image = push_image(layout, "v1")
    signature = push_signature(layout, image.descriptor)
    layout.attach([signature])
    tagged = run(program("umoci"), "tag", "--image", f"{layout.path}:v1", "v2")
    assert tagged.exit_code == 0, tagged.err
    assert layout.resolve("v2") == image
    assert layout.referrers(image.descriptor) == [signature.referrer]


def test_what_real_programs_write_is_read(tmp_path):
    umoci = program("umoci")
    path = tmp_path / "made"
    assert run(umoci, "init", "--layout", path).exit_code == 0
    assert Layout(path).referrers(Descriptor.of(b"", "a/b")) == []
    assert run(umoci, "new", "--image", f"{path}:v1").exit_code == 0
    source = Layout(path)
    image = source.resolve("v1")
    signature = push_signature(source, image.descriptor)
    source.attach([signature])
    assert source.referrers(image.descriptor) == [signature.referrer]
    archive = tmp_path / "made.tar"
    skopeo = [program("skopeo"), "--insecure-policy", "copy", f"oci:{path}:v1"]
    copied = run(*skopeo, f"oci-archive:{archive}:v3")
    assert copied.exit_code == 0, copied.err
    with Layout(archive) as tar:
        assert tar.resolve("v3").descriptor == image.descriptor
        assert json.loads(b"".join(tar.fetch(image.config)))["os"] == "linux"


def test_an_index_among_the_entries_is_read(layout):
    image = push_image(layout, "v1")
    index = make_index([image.descriptor])
    layout.tag(index, "all")
    assert layout.resolve("all").manifests == (image.descriptor,)


def test_content_that_breaks_off_leaves_no_blob(layout):
    def pieces():
        yield b"12"
        raise StorageError("no space")

    with pytest.raises(StorageError):
        layout.push(Descriptor.of(b"1234", TAR), pieces)
    assert not layout.exists(Descriptor.of(b"1234", TAR))
    assert [file for file in (layout.path / "blobs").rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("what", ["blobs/sha256", "blob", "index.json"])
def test_a_link_is_named(layout_path, tmp_path, what):
    layout = Layout.create(layout_path)
    image = push_image(layout, "v1")
    path = layout_path / what
    if what == "blob":
        path = layout_path / "blobs/sha256" / image.descriptor.digest.encoded
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=f"{path} is a symbolic link.*cp -rL"):
        layout.resolve("v1")
