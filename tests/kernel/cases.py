"""What the kernel is to make of which image."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pki
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from helpers import flip, noise

from .bad_signatures import BAD_SIGNATURES
from .fec_cases import fec_cases
from .identities import Identities
from .images import BLOCK, BLOCKS, Case, Change, Image, eio
from .openssl_signatures import ATTRIBUTES, PLAIN, SLIPS, openssl_case

RSA = ("RSA-2048", "RSA-3072", "RSA-4096")
EC = ("EC-256", "EC-384", "EC-521")
DIGESTS = ("sha256", "sha384", "sha512")
SALTS = {"0": "-", "32": noise(32).hex(), "256": noise(256).hex()}
UNSEALED = Case("unsealed", "ENOKEY", judged=False)


def _signatures() -> Iterator[Case]:
    algorithms = [*itertools.product(RSA, DIGESTS), *zip(EC, DIGESTS, strict=True)]
    for (key, digest), certificates in itertools.product(algorithms, ((), ("--no-certs",))):
        name = f"{key}-{digest}{'-no-certs' if certificates else ''}"
        yield Case(name, signer=key, sign=("--digest", digest, *certificates))


def _trees() -> Iterator[Case]:
    sizes = (("4096", "4096"), ("512", "512"), ("1024", "4096"))
    layouts = itertools.product("10", sizes, (False, True))
    for (kind, (data, hashed), appended), salt in zip(layouts, itertools.cycle(SALTS)):
        name = f"tree-type{kind}-{data}-{hashed}-salt{salt}{'-appended' if appended else ''}"
        layout = ("--format", kind, "--data-block-size", data, "--hash-block-size", hashed)
        tree = (*layout, "--salt", SALTS[salt])
        # enough for two levels, or three where blocks are small
        yield Case(name, tree=tree, blocks=270, appended=appended)
    yield Case("tree-one-block", blocks=1)
    for algorithm in ("sha384", "sha512"):
        yield Case(f"tree-{algorithm}", tree=("--hash", algorithm))
    for appended in (False, True):
        name = f"tree-no-superblock{'-appended' if appended else ''}"
        bare = ("--no-superblock", "--salt", SALTS["32"], "--data-blocks", str(BLOCKS))
        yield Case(name, tree=bare, appended=appended)


def _chains() -> Iterator[Case]:
    for place in ("root", "between", "middle"):
        yield Case(f"chain-{place}", signer=f"below {place}")
    yield Case("chain-no-certs", "ENOKEY", signer="below root", sign=("--no-certs",))
    yield Case("chain-untrusted", "ENOKEY", signer="below stranger")


def _damaged_images() -> Iterator[Case]:
    small = ("--data-block-size", "512", "--hash-block-size", "512")
    yield Case("data-altered-4096", eio([5]), change=_flip_data(5 * BLOCK + 123))
    # a page of the page cache is read in full or not at all
    yield Case("data-altered-512", eio(range(8)), tree=small, change=_flip_data(5 * 512 + 123))
    last = BLOCKS - 1
    ends = _flip_data(0, last * BLOCK + BLOCK - 1)
    yield Case("data-altered-first-and-last", eio([0, last]), change=ends)
    yield Case("data-altered-appended", eio([5]), appended=True, change=_flip_data(5 * BLOCK))
    yield Case("data-other", eio(range(BLOCKS)), change=_other_data)
    # superblock, top, then the leaf blocks of 16 digests each: this is the second
    leaf = _flip_hash_file(3 * 512 + 7)
    yield Case("hash-block-altered", eio(range(16, 32)), tree=small, blocks=32, change=leaf)
    yield Case("salt-altered", eio(range(BLOCKS)), change=_flip_hash_file(88))


def _refused_signatures() -> Iterator[Case]:
    bare = ("--no-certs",)
    yield Case("other-key", "ENOKEY", signer="stranger")
    yield Case("other-key-no-certs", "ENOKEY", signer="stranger", sign=bare)
    same = "other-key-same-subject-and-serial"
    yield Case(same, "ENOKEY", signer="impostor")
    yield Case(f"{same}-no-certs", "EKEYREJECTED", signer="impostor", sign=bare)
    for key in ("RSA-2048", "RSA-4096", *EC):
        # of RSA the padding is then wrong, before any digest is compared
        error = "EINVAL" if key in RSA else "EKEYREJECTED"
        yield Case(f"signature-altered-{key}", error, signer=key, change=_flip_signature(key))
    # no longer the signer's, but still named as its own issuer: Linux wants that to be true
    yield Case("embedded-certificate-altered", "EKEYREJECTED", change=_flip_serial)
    yield Case("signature-truncated", "EBADMSG", change=_signature(lambda der: der[:-1]))
    yield Case("signature-missing", "ENOKEY", change=_no_signature, judged=False)
    yield Case("signature-pem", "EBADMSG", change=_signature(_pem))


def _openssl_signatures() -> Iterator[Case]:
    """Signatures that dmsign-fast does not make, by openssl."""
    yield openssl_case("openssl", *PLAIN)
    yield openssl_case("openssl-attributes", *ATTRIBUTES)
    yield openssl_case("smime-capabilities", "smime", expected="EKEYREJECTED")
    yield openssl_case("not-detached", *PLAIN, "-nodetach", expected="EBADMSG")
    pss = ("cms", "-noattr", "-keyopt", "rsa_padding_mode:pss")
    yield openssl_case("pss", *pss, expected="ENOPKG")
    for name, slip in SLIPS.items():
        yield openssl_case(name, *PLAIN, slip=slip, expected="EKEYREJECTED")


def _stricter() -> Iterator[Case]:
    """What Linux takes and dmsign-fast, on purpose, does not."""
    yield openssl_case("stricter-sha1", *PLAIN, digest="sha1", stricter=True)
    for name in ("expired", "usage", "v1", "below not a CA"):
        yield openssl_case(f"stricter-{name.replace(' ', '-')}", *PLAIN, signer=name, stricter=True)


def _flip_data(*offsets: int) -> Change:
    return lambda image, _: [flip(image.data, offset) for offset in offsets]


def _flip_hash_file(offset: int) -> Change:
    return lambda image, _: flip(image.hash_file, offset)


def _other_data(image: Image, _: Identities) -> None:
    image.data.write_bytes(noise(BLOCKS * BLOCK, 9999))


def _signature(change: Callable[[bytes], bytes]) -> Change:
    return lambda image, _: image.signature.write_bytes(change(image.signature.read_bytes()))


def _flip_signature(name: str) -> Change:
    """Alter the value; of RSA so that what Linux recovers does not begin with zero by chance."""

    def change(image: Image, identities: Identities) -> None:
        signature = image.signature.read_bytes()
        key = identities[name].certificate.public_key()
        altered = (signature[:-1] + bytes([signature[-1] ^ 1 << bit]) for bit in range(8))
        image.signature.write_bytes(next(one for one in altered if _garbled(key, one)))

    return change


def _garbled(key: object, signature: bytes) -> bool:
    if not isinstance(key, RSAPublicKey):
        return True
    numbers, size = key.public_numbers(), key.key_size // 8
    recovered = pow(int.from_bytes(signature[-size:]), numbers.e, numbers.n)
    return recovered.to_bytes(size)[0] != 0


def _no_signature(image: Image, _: Identities) -> None:
    image.signature.unlink()


def _flip_serial(image: Image, identities: Identities) -> None:
    certificate = image.signature.read_bytes().index(pki.der(identities["EC-256"].certificate))
    flip(image.signature, certificate + 20)


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN PKCS7-----\n%b-----END PKCS7-----\n" % base64.encodebytes(der)


FORMS = (*_chains(), *_refused_signatures(), *_openssl_signatures(), *_stricter())
CASES = (
    UNSEALED,
    *_signatures(),
    *_trees(),
    *_damaged_images(),
    *fec_cases(),
    *FORMS,
    *BAD_SIGNATURES,
)


def make_images(cases: Iterable[Case], directory: Path, identities: Identities) -> None:
    """Make all of them below the directory."""
    for case in cases:
        case.make(directory, identities)
