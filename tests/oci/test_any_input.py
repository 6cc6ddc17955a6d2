"""Whatever a stranger sends is read, reported or refused; nothing else is raised."""

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from images import push_image, push_signature
from registry_server import change

from dmsign_fast.errors import DmsignError, FormatError, RegistryError
from dmsign_fast.oci.auth import Authenticator, parse_challenges
from dmsign_fast.oci.descriptor import Digest
from dmsign_fast.oci.manifest import OCI_INDEX as INDEX
from dmsign_fast.oci.manifest import Descriptor as Described
from dmsign_fast.oci.manifest import Index, parse_manifest, read_entries
from dmsign_fast.oci.pages import next_page
from dmsign_fast.oci.retry import retry_after
from dmsign_fast.strict_json import check_value, read_json

GOOD = {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 3}
NAMES = (*GOOD, "annotations", "artifactType", "platform", "urls", "data", "os", "Size")
texts = st.text(st.characters(codec=None), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | texts, inner, max_size=4)
    ),
    max_leaves=8,
)
near = st.dictionaries(st.sampled_from(NAMES), values, max_size=3).map(lambda some: GOOD | some)


@given(st.lists(values | near, max_size=4))
def test_any_entries(entries):
    raw = json.dumps({"schemaVersion": 2, "manifests": [*entries, GOOD]}).encode()
    index = parse_manifest(raw, Described.of(raw, INDEX))
    assert isinstance(index, Index)
    assert Digest(GOOD["digest"]) in [one.digest for one in index.manifests]
    assert len(index.manifests) + len(index.problems) == len(entries) + 1
    more = index.with_more([])
    assert [one.digest for one in more.manifests] == [one.digest for one in index.manifests]


@given(values)
def test_any_value(value):
    data = json.dumps(value).encode()
    with contextlib.suppress(FormatError):
        read = read_json(data, "it")
        check_value(read, "it")
        json.dumps(read, allow_nan=False).encode()
    (entry,) = read_entries([value], "it")
    assert (entry.descriptor is None) is (entry.problem is not None)


@given(st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"token":"t","expires_in":1' + b"0" * 5000 + b"}")
@example(b'{"token":"t","expires_in":NaN}')
def test_any_answer_of_a_token_server(answer):
    some = Authenticator("r", "https://r", lambda: None, lambda *_: answer)
    with contextlib.suppress(RegistryError):
        some.answer('Bearer realm="https://t/x"', ("repository:a:pull",), None)
        some.header(("repository:a:pull",))


@given(st.text(max_size=60) | st.text(st.sampled_from('<>;,="\\ relnxt/ab'), max_size=80))
def test_any_header(text):
    assert (retry_after(text) or 0) >= 0
    with contextlib.suppress(RegistryError):
        next_page(text, "https://r.example/v2/", "a list")
    with contextlib.suppress(RegistryError):
        parse_challenges(text)


@pytest.mark.parametrize("what", ["/referrers/", "/tags/list", "/manifests/v1"])
def test_any_body_of_a_registry(serve, connect, what):
    server = serve()
    registry = connect(server, tries=1)
    image = push_image(registry, "v1")
    registry.attach([push_signature(registry, image.descriptor, 1)])
    for body in (b"", b"[]", b"null", b"5", b"[" * 100_000, b'{"manifests":5}', b'{"tags":{}}'):
        for ask in (
            lambda: registry.referrers(image.descriptor),
            registry.references,
            lambda: registry.resolve("v1"),
        ):
            server.fail("GET", what, change(lambda _, body=body: body))
            with contextlib.suppress(DmsignError):
                ask()
            server.faults.clear()
