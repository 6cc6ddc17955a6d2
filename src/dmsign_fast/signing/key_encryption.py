"""How much work the encryption of a key's file asks for, before it is done.

PKCS#12 is RFC 7292, with PBMAC1 RFC 9579; encrypted PKCS#8 is RFC 5958. Their algorithms are those
of PKCS#5, RFC 8018, and scrypt, RFC 7914.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from dmsign_fast.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from asn1crypto import algos

__all__ = ["Encryption", "check_work", "encryptions_of_pkcs8", "encryptions_of_pkcs12"]

_MAX_ITERATIONS = 10_000_000  # to make keys of a passphrase, in all of a file: about 3 seconds
_OF_SCRYPT = 4  # one step of scrypt takes as long as up to so many; also, 128 bytes for each step
_SCRYPT, _PBMAC1 = "1.3.6.1.4.1.11591.4.11", "1.2.840.113549.1.5.14"
_BEGIN = b"BEGIN ENCRYPTED PRIVATE KEY-----"
_PEM = re.compile(_BEGIN + rb"([^-]*)-----END")  # a header with a hyphen is malformed for us


class Encryption(NamedTuple):
    """The name of an algorithm, and its iterations to make a key of a passphrase."""

    name: str
    iterations: int


def check_work(encryptions: Iterable[Encryption]) -> None:
    """FormatError if all together take too long, ValueError if one is malformed."""
    try:
        counts = [one.iterations for one in encryptions]
    except (AttributeError, IndexError, KeyError, TypeError):  # of asn1crypto, over odd structures
        raise ValueError from None
    if min(counts, default=1) < 1:
        raise ValueError
    if sum(counts) > _MAX_ITERATIONS:
        raise FormatError(
            f"its encryption has {sum(counts)} iterations for the passphrase, and may have "
            f"{_MAX_ITERATIONS}: encrypt the key anew, as openssl does without -iter"
        )


def encryptions_of_pkcs8(data: bytes) -> Iterator[Encryption]:
    """Those of keys in PEM or DER; ValueError if one is malformed."""
    from asn1crypto import keys

    found = [data]
    if b"-----BEGIN " in data:
        found = [base64.b64decode(text) for text in _PEM.findall(data)]
        if len(found) < data.count(_BEGIN):
            raise ValueError
    for one in found:
        info = keys.EncryptedPrivateKeyInfo.load(one)
        yield _encryption(info["encryption_algorithm"])


def encryptions_of_pkcs12(data: bytes) -> Iterator[Encryption]:
    """Those of the MAC, of certificates and of keys; ValueError if the file is malformed."""
    from asn1crypto import pkcs12

    file = pkcs12.Pfx.load(data)
    if file["mac_data"].native is not None:
        yield Encryption("mac", int(file["mac_data"]["iterations"].native))
        algorithm = file["mac_data"]["mac"]["digest_algorithm"]
        if algorithm["algorithm"].dotted == _PBMAC1:
            yield Encryption("mac", _iterations(_first(algorithm["parameters"])))
    for content in file.authenticated_safe:
        if content["content_type"].native == "encrypted_data":
            inner = content["content"]["encrypted_content_info"]
            yield _encryption(inner["content_encryption_algorithm"])
            continue
        bags = list(pkcs12.SafeContents.load(content["content"].native))
        while bags:
            bag = bags.pop()
            if bag["bag_id"].native == "pkcs8_shrouded_key_bag":
                yield _encryption(bag["bag_value"]["encryption_algorithm"])
            elif bag["bag_id"].native == "safe_contents":  # bags in a bag
                bags += bag["bag_value"]


def _encryption(algorithm: algos.EncryptionAlgorithm) -> Encryption:
    name = str(algorithm["algorithm"].native)
    if name == "pbes2":
        return Encryption(name, _iterations(algorithm["parameters"]["key_derivation_func"]))
    return Encryption(name, int(algorithm.kdf_iterations))


def _first(parameters: object) -> algos.KdfAlgorithm:
    """The key derivation of PBMAC1, which stands first."""
    from asn1crypto import algos, core

    class Pbmac1(core.Sequence):  # type: ignore[misc]
        _fields: ClassVar = [("kdf", algos.KdfAlgorithm), ("mac", algos.HmacAlgorithm)]

    return parameters.parse(Pbmac1)["kdf"]  # type: ignore[attr-defined]


def _iterations(kdf: algos.KdfAlgorithm) -> int:
    if kdf["algorithm"].dotted != _SCRYPT:
        return int(kdf["parameters"]["iteration_count"].native)
    from asn1crypto import core

    _salt, *steps = list(kdf["parameters"].parse(core.SequenceOf, {"spec": core.Any}))[:4]
    count = _OF_SCRYPT
    for number in steps:
        count *= max(0, int(number.parse(core.Integer).native))
    return count
