"""What strangers attach to an image: judged one by one, up to a bound, and no harm to the rest."""

import json

import pytest
from forge import forge_jws
from signed_images import (
    JWS,
    LEAF,
    STRANGER,
    accepted,
    attach_layers,
    attach_notary,
    refused,
    remove,
    sign,
    signatures_of,
    verify,
)

from dmsign_fast.errors import ParameterError, ProgramError, RegistryError, StorageError
from dmsign_fast.pipeline import already_signed, inspect_image, reuse, verify_image
from dmsign_fast.pipeline.plan import Reuse


class PanicException(BaseException):
    """As cryptography's Rust code raises it."""


FOREIGN = [
    ValueError("odd"),
    RecursionError("deep"),
    MemoryError(),
    KeyError("certs"),
    AssertionError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"),
    PanicException("called `Option::unwrap()`"),
]
JUDGES = {"notary": "envelope_verdict", "dm-verity": "verify_layer_signature"}


def raise_for_strangers(monkeypatch, module, name, error, good):
    judge = getattr(module, name)

    def judged(data, *arguments, **options):
        if data not in good:
            raise error
        return judge(data, *arguments, **options)

    monkeypatch.setattr(module, name, judged)


def good_blobs(store, made):
    manifests = [store.fetch_manifest(one) for one in made.added]
    return [b"".join(store.fetch(layer)) for one in manifests for layer in one.layers]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("kind", JUDGES)
def test_any_exception_is_the_verdict_on_one(kind, error, signed, monkeypatch):
    store, made = signed
    good = good_blobs(store, made)
    if kind == "notary":
        attach_notary(store, made.manifest, entity=STRANGER)
    else:
        attach_layers(store, made.manifest, signatures_of(made, STRANGER))
    raise_for_strangers(monkeypatch, verify_image, JUDGES[kind], error, good)
    verdict = verify(store, "v1")
    assert verdict.verified
    (bad,) = refused(verdict)
    assert bad.kind == kind
    assert f"it cannot be judged: {type(error).__name__}" in bad.problem


@pytest.mark.parametrize(
    "error",
    [StorageError("x"), RegistryError("x"), ProgramError("x"), KeyboardInterrupt(), SystemExit()],
    ids=lambda one: type(one).__name__,
)
def test_what_says_nothing_about_an_entry_is_no_verdict(error, signed, monkeypatch):
    store, made = signed
    attach_notary(store, made.manifest, entity=STRANGER)
    good = good_blobs(store, made)
    raise_for_strangers(monkeypatch, verify_image, "envelope_verdict", error, good)
    with pytest.raises(type(error)):
        verify(store, "v1")


@pytest.mark.parametrize("error", FOREIGN, ids=lambda one: type(one).__name__)
def test_sign_passes_them_over_too(error, signed, monkeypatch):
    store, made = signed
    good = good_blobs(store, made)
    attach_notary(store, made.manifest, entity=STRANGER)
    remove(store, made.notary)
    attach_notary(store, made.manifest)
    raise_for_strangers(monkeypatch, already_signed, "parse_envelope", error, good)
    (again,) = sign(store, "v1")
    assert [one.digest for one in again.added] == [again.notary.digest]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda one: type(one).__name__)
def test_so_do_inspect_and_reuse(error, signed, monkeypatch):
    store, made = signed
    good = good_blobs(store, made)
    attach_notary(store, made.manifest, entity=STRANGER)
    raise_for_strangers(monkeypatch, inspect_image, "parse_envelope", error, good)
    raise_for_strangers(monkeypatch, reuse, "envelope_verdict", error, good)
    (image,) = inspect_image.inspect_image(store, "v1")
    errors = [one["error"] for one in image["signatures"] if "error" in one]
    assert len(errors) == 1
    assert type(error).__name__ in errors[0]
    (again,) = sign(store, "v1", reuse=Reuse())
    assert again.added == ()
    assert all(layer.reused for layer in again.layers)


def crowd(store, made, count, thumbprints):
    """Strangers' signatures, listed before the others."""
    index = json.loads((store.path / "index.json").read_text())
    for number in range(count):
        envelope = forge_jws(STRANGER, made.manifest.plain().to_json(), protected={"x": number})

        def claim(one):
            name = "io.cncf.notary.x509chain.thumbprint#S256"
            if thumbprints is not None:
                one["annotations"][name] = thumbprints

        attach_notary(store, made.manifest, envelope, claim, entity=STRANGER, media_type=JWS)
    after = json.loads((store.path / "index.json").read_text())
    known = index["manifests"]
    after["manifests"] = [one for one in after["manifests"] if one not in known] + known
    (store.path / "index.json").write_text(json.dumps(after))


@pytest.mark.parametrize("thumbprints", [None, "[]"])
def test_other_signers_do_not_crowd_out_the_right_one(thumbprints, signed):
    store, made = signed
    crowd(store, made, 5, thumbprints)
    verdict = verify(store, "v1", max_signatures=2)
    assert verdict.verified
    assert (len(verdict.referrers), verdict.unjudged) == (2, 5)
    verdict = verify(store, "v1")
    assert verdict.verified
    assert (len(verdict.referrers), verdict.unjudged) == (7, 0)


def test_what_is_over_the_bound_is_not_judged_and_said(signed):
    """Who copies the thumbprints of the right signer must push as many as the bound."""
    store, made = signed
    notary = store.fetch_manifest(made.notary)
    crowd(store, made, 5, notary.annotations["io.cncf.notary.x509chain.thumbprint#S256"])
    verdict = verify(store, "v1", max_signatures=6)
    assert (verdict.missing, verdict.unjudged) != ((), 0)
    assert not verdict.verified
    verdict = verify(store, "v1", max_signatures=7)
    assert (verdict.verified, verdict.unjudged) == (True, 0)


def test_a_binding_signature_may_be_among_those_not_judged(signed):
    """So layers that nothing binds do not count then."""
    store, made = signed
    remove(store, made.notary)
    attach_notary(store, made.manifest)
    assert verify(store, "v1").verified
    crowd(store, made, 3, "[]")
    verdict = verify(store, "v1", max_signatures=2)
    assert verdict.missing == ("dm-verity",)
    assert "binds the layers" in refused(verdict)[0].problem
    assert verify(store, "v1").verified


# -- the binding is asked for


def test_require_bound(signed):
    store, made = signed
    verdict = verify(store, "v1", require_bound=True)
    assert (verdict.verified, verdict.bound) == (True, True)
    remove(store, made.notary)
    attach_notary(store, made.manifest, entity=LEAF)  # as notation signs
    verdict = verify(store, "v1")
    assert (verdict.verified, verdict.bound) == (True, False)
    verdict = verify(store, "v1", require_bound=True)
    assert (verdict.missing, verdict.bound) == (("dm-verity",), False)
    assert len(accepted(verdict)) == 1


@pytest.mark.parametrize("without", ["dm_verity", "manifest_signature"])
def test_require_bound_is_about_both(without, signed):
    store, _ = signed
    with pytest.raises(ParameterError, match="verify both"):
        verify(store, "v1", require_bound=True, **{without: False})
