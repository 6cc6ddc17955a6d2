"""Deviations from the specification: we refuse them all, and so does the real notation.

It takes those that docs/notation-differences.md names with the reason, and no others.
"""

import pytest
from container_images import push_image
from deviating_chains import ROOT
from deviation import Case
from deviations import CASES
from differences import differences
from notation import SCOPE, Layout, Notation, accepts
from pki import make_sha1_leaf, pem
from signed_images import BAD, remove, sign, verify
from signed_images import ROOT as IMAGE_ROOT

from dmsign_fast.envelope.notary import check_envelope, parse_envelope
from dmsign_fast.errors import FormatError, VerificationError
from dmsign_fast.oci.layout import Layout as Store

BESIDE = differences("Broken signatures beside a good one")
PAIRS = [(section, one) for section, cases in CASES.items() for one in cases]


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return Layout(tmp_path_factory.mktemp("layout") / "oci")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("notation")


def judged(case, home, layout):
    """Refuse it; return whether notation takes it."""
    envelope = case.envelope(layout.image)
    with pytest.raises((FormatError, VerificationError), match=case.says):
        check_envelope(parse_envelope(envelope, case.media_type), target=layout.image)
    return accepts(home, layout, envelope, case.media_type, case.entity).exit_code == 0


@pytest.mark.parametrize(
    ("section", "case"), PAIRS, ids=[f"{section}-{one.name}" for section, one in PAIRS]
)
def test_envelopes(section, case, home, layout):
    assert judged(case, home, layout) == (case.name in differences(section))


def test_a_certificate_signed_with_sha1(tmp_path, home, layout):
    leaf = make_sha1_leaf(ROOT)
    assert not judged(Case("sha1", "sha1, which is weak", leaf, {}), home, layout)


@pytest.mark.parametrize("section", CASES)
def test_every_difference_is_of_a_case(section):
    names = [one.name for one in CASES[section]]
    assert len(set(names)) == len(names)
    assert differences(section) <= set(names)
    assert BAD.keys() >= BESIDE


@pytest.fixture
def store(tmp_path):
    """An image, signed; what ``sign`` said of it; and what notation says of it."""
    store = Store.create(tmp_path / "store")
    push_image(store, "v1")
    (signed,) = sign(store, "v1")
    notation = Notation(tmp_path / "home")
    notation.trust(pem(IMAGE_ROOT.certificate))
    reference = f"{store.path}@{signed.manifest.digest}"

    def accepted():
        return notation("verify", "--oci-layout", reference, "--scope", SCOPE).exit_code == 0

    assert accepted()
    return store, signed, accepted


@pytest.mark.parametrize("what", [what for what, (kind, *_) in BAD.items() if kind == "notary"])
def test_manifests(what, store):
    store, signed, accepted = store
    remove(store, *signed.added)
    BAD[what][2](store, signed.manifest, signed)
    assert not verify(store, "v1").verified
    assert not accepted()


@pytest.mark.parametrize("what", BAD)
def test_beside_a_good_signature(what, store):
    store, signed, accepted = store
    BAD[what][2](store, signed.manifest, signed)
    assert verify(store, "v1").verified
    different = what in BESIDE
    # which notation meets first is chance: the broken one in about one run of eight
    assert different != all(accepted() for _ in range(300 if different else 1))
