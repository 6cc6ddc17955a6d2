"""Public functions and classes with arguments of other types: our message, or they take them."""

import gzip
import os
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images import layer, push_image
from pki import make_intermediate, make_leaf, make_root

import dmsign_fast
from dmsign_fast import (
    Connection,
    Conversion,
    Credentials,
    DmsignError,
    Expected,
    FecDevice,
    KeyOptions,
    LayerHasher,
    Layout,
    Recipe,
    Registry,
    Signer,
    SignOptions,
    VerifyOptions,
    VerityHasher,
    VerityParams,
    check_passed,
    convert_layer,
    format_file,
    hash_layer,
    load_trust_anchors,
    open_signer,
    repair_file,
    sign_image,
    trust_by_policy,
    trust_files,
    verify_file,
    verify_image,
)

RECIPE = Recipe.parse("containerd")
ERRORS = [getattr(dmsign_fast, name) for name in dmsign_fast.__all__ if name.endswith("Error")]


@dataclass(frozen=True)
class Call:
    """A call that works, by names of its arguments."""

    function: object
    arguments: dict

    def __repr__(self):
        return self.function.__qualname__


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """Where files appear whose names are values."""
    before, place = Path.cwd(), tmp_path_factory.mktemp("types")
    os.chdir(place)
    yield place
    os.chdir(before)


@pytest.fixture(scope="module")
def calls(place):
    leaf = make_leaf(make_intermediate(make_root()))
    files = leaf.write(place)
    push_image(Layout.create(place / "image"), "1.0")
    store = Layout(place / "image")
    signer = open_signer(f"file:{files.key}", KeyOptions(certificates=files.chain))
    anchors = load_trust_anchors(files.root)
    trust = trust_files(anchors)
    (place / "layer").write_bytes(gzip.compress(layer(3000)))
    (place / "data").write_bytes(bytes(range(256)) * 64)
    data, hashes = place / "data", place / "hashes"
    fec = FecDevice(place / "fec")
    made = format_file(data, hashes, fec=fec)
    verity = {
        "params": None,
        "data_blocks": None,
        "hash_offset": 0,
        "threads": 1,
        "progress": len_of,
    }
    tree = {"data": data, "hash_file": hashes, "root_hash": made.root_hash}
    verify_options = VerifyOptions(recipe=RECIPE, trust=trust)
    read = {
        "stream": place / "layer",
        "recipe": RECIPE,
        "expected": Expected(),
        "conversion": Conversion(threads=1),
    }
    layer_hasher = LayerHasher(RECIPE, threads=1)
    verity_hasher = VerityHasher(VerityParams(), threads=1)
    signing = {"store": store, "reference": "1.0", "signer": signer}
    return [
        Call(format_file, {"data": data, "hash_file": place / "new"} | verity | {"fec": None}),
        Call(format_file, {"data": data, "superblock_uuid": None, "superblock": True}),
        Call(verify_file, tree | verity),
        Call(repair_file, tree | {"fec": fec, "output": place / "repaired"} | verity),
        Call(hash_layer, read | {"progress": len_of, "stop": None}),
        Call(convert_layer, read | {"image": place / "made", "verity": "none", "protect": ()}),
        Call(sign_image, signing | {"options": SignOptions(recipe=RECIPE), "progress": len_of}),
        Call(verify_image, {"store": store, "reference": "1.0", "options": verify_options}),
        Call(check_passed, {"verdicts": [], "name": "image"}),
        Call(open_signer, {"uri": f"file:{files.key}?cert={files.chain}", "options": KeyOptions()}),
        Call(trust_files, {"anchors": anchors, "tsa_anchors": None, "revocation": False}),
        Call(trust_by_policy, {"scope": "registry.example/app", "config": place / "nowhere"}),
        Call(Recipe.parse, {"text": "containerd"}),
        Call(
            Recipe,
            {
                "name": "mine",
                "layout": RECIPE.layout,
                "uuid": RECIPE.uuid,
                "params": RECIPE.params,
                "mkfs_version": "1.9.4",
                "enable_tar_index": None,
            },
        ),
        Call(Layout, {"path": place / "image"}),
        Call(Layout.create, {"path": place / "created"}),
        Call(
            Registry,
            {
                "reference": "127.0.0.1:1/app",
                "connection": Connection(),
                "credentials": Credentials(),
                "environment": {},
            },
        ),
        Call(VerityParams, {"hash_algorithm": "sha256", "hash_type": 1, "salt": b""}),
        Call(VerityParams, {"data_block_size": 4096, "hash_block_size": 4096}),
        Call(VerityHasher, {"params": VerityParams(), "threads": 1}),
        Call(verity_hasher.update, {"data": b"data"}),
        Call(LayerHasher, {"recipe": RECIPE, "threads": 1, "memory": 1 << 20}),
        Call(layer_hasher.update, {"data": bytes(512)}),
        Call(FecDevice, {"path": place / "fec", "offset": 0, "roots": 2}),
        Call(
            Expected,
            {"digest": f"sha256:{'0' * 64}", "size": 3, "diff_id": None, "media_type": None},
        ),
        Call(
            Conversion,
            {
                "converter": "native",
                "mkfs": None,
                "mkfs_options": (),
                "threads": 1,
                "memory": 1 << 20,
                "max_layer_size": 1 << 20,
                "time_limit": 3.0,
            },
        ),
        Call(
            KeyOptions,
            {
                "certificates": files.chain,
                "secret": None,
                "config": {},
                "at": datetime.now(UTC),
                "timeout": 3.0,
            },
        ),
        Call(
            Connection,
            {
                "ca_file": None,
                "client_certificate": None,
                "client_key": None,
                "connect_timeout": 1.0,
                "read_timeout": 1.0,
                "deadline": None,
                "tries": 1,
                "patience": 1.0,
                "pause": 0.1,
                "settle": 0.1,
            },
        ),
        Call(
            Credentials,
            {
                "username": "alice",
                "password": "secret",
                "identity_token": None,
                "registry_token": None,
            },
        ),
        Call(
            SignOptions,
            {
                "recipe": RECIPE,
                "forms": ("notation",),
                "media_type": "application/cose",
                "expiry": None,
                "user_metadata": {},
                "timestamp": None,
                "agent": None,
                "platform": None,
                "jobs": 1,
                "conversion": Conversion(),
                "pkcs7_digest": None,
                "reuse": None,
                "signing_time": None,
                "and_by": (),
                "manifest_signer": None,
            },
        ),
        Call(
            VerifyOptions,
            {
                "trust": trust,
                "recipe": RECIPE,
                "forms": (),
                "max_signatures": 3,
                "user_metadata": {},
                "revocation": None,
                "platform": None,
                "jobs": 1,
                "conversion": Conversion(),
            },
        ),
    ]


def len_of(number):
    return number


VALUES = (
    *(None, 5, -1, 1.5, True, "text", "", b"bytes", b"", [], [1], (), (None,), {}, {1: 2}, {5}),
    *(object(), Path("nowhere"), Path, Layout, len, lambda: None, RECIPE, Expected(), range(3)),
)


NEEDS_MORE = (open_signer, trust_by_policy)  # options or a policy: they refuse in words
AS_HASHLIB = ("update",)  # where a TypeError is what hashlib raises


def outcome(call, arguments):
    """None, or the error of ours; any other passes through."""
    try:
        call.function(**arguments)
    except DmsignError as error:
        return error
    except TypeError as error:
        if call.function.__name__ not in AS_HASHLIB:
            raise
        return error
    return None


def test_the_calls_work(calls):
    for call in calls:
        assert outcome(call, call.arguments) is None or call.function in NEEDS_MORE, call
    covered = {call.function for call in calls} | {load_trust_anchors, Signer, *ERRORS}
    missing = [n for n in dmsign_fast.__all__ if getattr(dmsign_fast, n) not in covered]
    assert missing == []


def test_any_value_in_the_place_of_each_argument(calls):
    bad = []
    for call in calls:
        for name in call.arguments:
            taken = [one for one in VALUES if not (callable(one) and name == "progress")]
            for value in taken:  # a function fails in its own words
                try:
                    said = outcome(call, call.arguments | {name: value})
                    assert said is None or str(said)
                except Exception as error:  # noqa: BLE001
                    bad.append(f"{call!r} {name}={value!r}: {error!r}")
    print(*bad, sep="\n")
    assert len(bad) == 0


def test_functions_can_be_sent_to_other_processes():
    for function in (hash_layer, format_file, sign_image):
        assert pickle.loads(pickle.dumps(function)) is function


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
ANY = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.dictionaries(PLAIN, inner) | st.tuples(inner, inner),
    max_leaves=5,
)


@settings(max_examples=300)
@given(data=st.data())
def test_any_value_at_all(calls, data):
    call = data.draw(st.sampled_from(calls))
    name = data.draw(st.sampled_from(sorted(call.arguments)))
    value = data.draw(ANY)
    said = outcome(call, call.arguments | {name: value})
    assert said is None or str(said)
