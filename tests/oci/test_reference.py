import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.errors import ParameterError
from dmsign_fast.oci.descriptor import Digest
from dmsign_fast.oci.reference import LayoutReference, RegistryReference

DIGEST = f"sha256:{'a' * 64}"
hosts = st.from_regex(
    r"[a-z]{1,5}(\.[a-z]{1,5}){0,2}(:[0-9]{1,5})?|\[::1\](:5000)?", fullmatch=True
)
parts = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|--)[a-z0-9]{1,3}){0,2}", fullmatch=True)
repositories = st.lists(parts, min_size=1, max_size=3).map("/".join)
tags = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,9}", fullmatch=True)
digests = st.none() | st.just(Digest(DIGEST))


@given(hosts, repositories, tags, digests)
def test_a_reference_is_read_as_it_is_written(registry, repository, tag, digest):
    reference = RegistryReference(registry, repository, tag, digest)
    assert RegistryReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("debian:12", "does not name a registry"),
        ("", "does not name a registry"),
        ("/a", "not a registry"),
        ("a b/c", "not a registry"),
        ("user@host/a", "not name a registry"),
        ("https://host/a:1", "leave out https://"),
        ("host/", "not a repository"),
        ("host/A", "not a repository"),
        ("host/a//b", "not a repository"),
        ("host/../b", "not a repository"),
        ("host/a_-b", "not a repository"),
        ("host/a:", "not a tag"),
        ("host/a:b c", "not a tag"),
        ("host/a:-b", "not a tag"),
        ("host/a:" + "b" * 129, "not a tag"),
        ("host/a@", "not a digest"),
        ("host/a@sha256:0", "not a digest"),
        (f"host/a@{DIGEST}@{DIGEST}", "not a digest"),
        ("host/" + "a" * 251, "255"),
    ],
)
def test_what_is_no_reference_is_refused(text, why):
    with pytest.raises(ParameterError, match=why):
        RegistryReference.parse(text)


def test_the_first_component_is_the_registry_with_or_without_a_dot():
    assert RegistryReference.parse("localhost/my.org/app").repository == "my.org/app"
    assert RegistryReference.parse("registry/app").registry == "registry"


def test_a_digest_comes_before_a_tag():
    assert RegistryReference.parse(f"h/a:b@{DIGEST}").wanted == DIGEST
    assert RegistryReference.parse("h/a:b").wanted == "b"
    with pytest.raises(ParameterError, match=r"h/a names no image: add :TAG or @DIGEST"):
        RegistryReference.parse("h/a").wanted  # noqa: B018


@pytest.mark.parametrize(
    ("text", "path", "tag", "digest"),
    [
        ("dir:v1", "dir", "v1", None),
        ("./a/b:v1", "a/b", "v1", None),
        (f"dir@{DIGEST}", "dir", None, DIGEST),
        (f"dir:v1@{DIGEST}", "dir", "v1", DIGEST),
        ("dir", "dir", None, None),
        ("a:b/dir", "a:b/dir", None, None),
        ("a@b/dir:1", "a@b/dir", "1", None),
        ("image@v2:1", "image@v2", "1", None),
        ("image@v2", "image@v2", None, None),
        (f"image@v2@{DIGEST}", "image@v2", None, DIGEST),
        (f"a@b:v1@{DIGEST}", "a@b", "v1", DIGEST),
        ("image.tar:1", "image.tar", "1", None),
    ],
)
def test_layouts_are_named_by_path(text, path, tag, digest):
    read = LayoutReference.parse(text)
    assert (str(read.path), read.tag, read.digest) == (path, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":v1",
        "dir:",
        "dir:a b",
        "dir@sha256:0",
        "dir@SHA256:" + "0" * 64,
        "dir@blake3:" + "0" * 64,
    ],
)
def test_what_names_no_layout_is_refused(text):
    with pytest.raises(ParameterError):
        LayoutReference.parse(text)


@pytest.mark.parametrize("name", ["docker.io/library/app:1.0", "app:1.0"])
def test_names_as_podman_and_skopeo_write_them(tmp_path, name):
    (tmp_path / "dir").mkdir()
    read = LayoutReference.parse(f"{tmp_path}/dir:{name}")
    assert (read.path, read.wanted) == (tmp_path / "dir", name)
    read = LayoutReference.parse(f"{tmp_path}/dir:{name}@{DIGEST}")
    assert (read.path, read.tag, read.wanted) == (tmp_path / "dir", name, DIGEST)
    (tmp_path / f"dir:{name[:-4]}").mkdir(parents=True)
    assert LayoutReference.parse(f"{tmp_path}/dir:{name}").tag == "1.0"
