"""Hash and sign in one go: three files, or none."""

from pathlib import Path

import pytest
from helpers import noise, write
from pki import NOW, make_leaf, make_root

from dmsign_fast.envelope.pkcs7 import verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import ParameterError, SigningError, StorageError
from dmsign_fast.pipeline.files import SignedPaths, sign_file
from dmsign_fast.signing.local import LocalSigner, load_local_signer
from dmsign_fast.signing.scheme import KeySpec
from dmsign_fast.verity.verify import verify_file

OLD = b"what stood there"


@pytest.fixture(scope="module")
def leaf():
    return make_leaf(make_root())


@pytest.fixture
def signer(leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    return load_local_signer(files.key, files.chain)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "images").mkdir()
    return write(tmp_path / "images" / "image.raw", noise(300 * 4096))


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("image.raw", ("image.verity", "image.roothash", "image.roothash.p7s")),
        ("image.erofs", ("image.erofs.verity", "image.erofs.roothash", "image.erofs.roothash.p7s")),
        ("image", ("image.verity", "image.roothash", "image.roothash.p7s")),
        ("a.b.raw", ("a.b.verity", "a.b.roothash", "a.b.roothash.p7s")),
        ("image.RAW", ("image.RAW.verity", "image.RAW.roothash", "image.RAW.roothash.p7s")),
        (".raw", (".raw.verity", ".raw.roothash", ".raw.roothash.p7s")),
    ],
)
def test_the_names_beside_the_data_are_systemds(data, names):
    for directory in (Path(), Path("/some/where.raw")):
        paths = SignedPaths.beside(directory / data)
        assert (paths.hash_file, paths.root_hash, paths.signature) == tuple(
            directory / name for name in names
        )


def test_three_files_appear_and_belong_together(data, signer, leaf):
    paths = SignedPaths.beside(data)
    signed = sign_file(data, paths, signer)
    root_hash = signed.formatted.root_hash
    assert paths.root_hash.read_bytes() == root_hash.hex().encode()
    assert paths.signature.read_bytes() == signed.signature
    verify_file(data, paths.hash_file, root_hash)
    verdict = verify_root_hash(signed.signature, root_hash, TrustAnchors((leaf.root,)))
    assert verdict.root_hash == root_hash.hex()
    assert len(list(data.parent.iterdir())) == 4


class _Failing:
    """A signer that fails as a remote one may."""

    key_spec = KeySpec("EC-256")

    def __init__(self, signer, error):
        self.certificate_chain = signer.certificate_chain
        self.error = error

    def sign(self, message, scheme):
        raise self.error


@pytest.mark.parametrize("error", [SigningError("no"), KeyboardInterrupt(), OSError("network")])
def test_no_file_appears_when_the_signer_fails(error, data, signer):
    with pytest.raises(type(error)):
        sign_file(data, SignedPaths.beside(data), _Failing(signer, error))
    assert list(data.parent.iterdir()) == [data]


def test_no_file_appears_when_the_signature_is_by_another_key(data, signer):
    other = make_leaf(make_root("Other Root"), "Other Signer").key
    wrong = LocalSigner(signer.key_spec, signer.certificate_chain, other)
    with pytest.raises(SigningError):
        sign_file(data, SignedPaths.beside(data), wrong)
    assert list(data.parent.iterdir()) == [data]


def test_no_file_appears_when_the_certificate_expired_meanwhile(data, leaf):
    expired = make_leaf(make_root(), start=NOW.replace(year=2001), end=NOW.replace(year=2002))
    wrong = LocalSigner(KeySpec("EC-256"), expired.chain, expired.key)
    with pytest.raises(SigningError, match="expired"):
        sign_file(data, SignedPaths.beside(data), wrong)
    assert list(data.parent.iterdir()) == [data]


@pytest.mark.parametrize("bad", ["hash_file", "root_hash", "signature"])
@pytest.mark.parametrize("existing", [False, True])
def test_no_file_appears_when_one_has_no_place(bad, existing, data, signer):
    names = {"hash_file": "h", "root_hash": "r", "signature": "s"}
    paths = {name: data.parent / short for name, short in names.items()}
    if existing:
        for path in paths.values():
            write(path, OLD)
    before = sorted(data.parent.iterdir())
    paths[bad] = data.parent / "missing" / "x"
    with pytest.raises(StorageError, match="missing/x"):
        sign_file(data, SignedPaths(**paths), signer)
    assert sorted(data.parent.iterdir()) == before
    for path in set(before) - {data}:
        assert path.read_bytes() == OLD


def test_a_tree_appended_to_the_data_goes_again_when_signing_fails(data, signer):
    before = data.read_bytes()
    paths = SignedPaths(data, data.parent / "r", data.parent / "s")
    with pytest.raises(SigningError):
        sign_file(data, paths, _Failing(signer, SigningError("no")), hash_offset=len(before))
    assert data.read_bytes() == before
    signed = sign_file(data, paths, signer, hash_offset=len(before))
    assert data.read_bytes().startswith(before)
    assert signed.formatted.hash_area.end == data.stat().st_size


@pytest.mark.parametrize("name", ["hash_file", "root_hash", "signature"])
def test_an_output_is_never_the_data(name, data, signer):
    paths = {"hash_file": data.parent / "h", "root_hash": data.parent / "r"}
    paths = {**paths, "signature": data.parent / "s", name: data}
    with pytest.raises(ParameterError):
        sign_file(data, SignedPaths(**paths), signer)
    assert data.read_bytes() == noise(300 * 4096)
    assert list(data.parent.iterdir()) == [data]


def test_outputs_are_never_one_file(data, signer):
    path = data.parent / "same"
    with pytest.raises((ParameterError, StorageError)):
        sign_file(data, SignedPaths(data.parent / "h", path, path), signer)
    assert list(data.parent.iterdir()) == [data]


def test_certificates_can_be_left_out(data, signer, leaf):
    paths = SignedPaths.beside(data)
    signed = sign_file(data, paths, signer, certificates=False)
    anchors = TrustAnchors((leaf.certificate,))
    verdict = verify_root_hash(signed.signature, signed.formatted.root_hash, anchors)
    assert verdict.embedded == 0


def test_the_mode_of_the_data_does_not_matter(data, signer):
    data.chmod(0o400)
    sign_file(data, SignedPaths.beside(data), signer)
    assert len(list(data.parent.iterdir())) == 4
