"""ML-DSA as Linux takes it: ``lib/crypto/mldsa.c``, which is pure, with an empty context.

The arithmetic is ``cryptography``'s. What is here tells a signature that cannot be decoded, which
is EBADMSG, from a signature of something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dmsign_fast.signing.scheme import KeySpec

__all__ = ["ML_DSA_PARAMETERS", "MlDsa"]

_COEFFICIENTS = 256  # of a polynomial


@dataclass(frozen=True, slots=True)
class MlDsa:
    """A set of parameters of FIPS 204, section 4.

    Attributes:
        name: of the class of ``cryptography`` for public keys.
        key: bytes of a public key.
        rows: of the matrix.
        columns: of the matrix.
        commitment: bytes of the hash in front of a signature.
        gamma: the bits of gamma1: a coefficient of z has one more.
        beta: how far from gamma1 a coefficient of z stays.
        omega: how many hints there are at most.
    """

    name: str
    key: int
    rows: int
    columns: int
    commitment: int
    gamma: int
    beta: int
    omega: int

    @property
    def response(self) -> int:
        """The bytes of z."""
        return self.columns * _COEFFICIENTS * (self.gamma + 1) // 8

    @property
    def size(self) -> int:
        """The bytes of a signature."""
        return self.commitment + self.response + self.omega + self.rows

    def load(self, key: bytes) -> Any:
        """Return the public key of ``cryptography``, which must have ML-DSA."""
        from cryptography.hazmat.primitives.asymmetric import mldsa

        return getattr(mldsa, self.name).from_public_bytes(key)

    def decodes(self, signature: bytes) -> bool:
        """Tell whether the bytes are a signature, of whatever it may be."""
        if len(signature) != self.size:
            return False
        response = signature[self.commitment : self.commitment + self.response]
        most = (2 << self.gamma) - self.beta
        return all(
            self.beta < one < most for one in self._coefficients(response)
        ) and self._has_hints(signature[-(self.omega + self.rows) :])

    def _coefficients(self, response: bytes) -> Iterator[int]:
        """BitUnpack (algorithm 19), before each is taken from gamma1."""
        bits = self.gamma + 1
        group, mask = bits // 2, (1 << bits) - 1  # four are so many bytes
        for at in range(0, len(response), group):
            value = int.from_bytes(response[at : at + group], "little")
            for shift in range(0, 4 * bits, bits):
                yield value >> shift & mask

    def _has_hints(self, hints: bytes) -> bool:
        """HintBitUnpack (algorithm 21)."""
        places, ends = hints[: self.omega], hints[self.omega :]
        start = 0
        for end in ends:
            row = places[start:end]
            if not start <= end <= self.omega or list(row) != sorted(set(row)):
                return False
            start = end
        return not any(places[start:])


ML_DSA_PARAMETERS = {
    KeySpec.ML_DSA_44: MlDsa("MLDSA44PublicKey", 1312, 4, 4, 32, 17, 78, 80),
    KeySpec.ML_DSA_65: MlDsa("MLDSA65PublicKey", 1952, 6, 5, 48, 19, 196, 55),
    KeySpec.ML_DSA_87: MlDsa("MLDSA87PublicKey", 2592, 8, 7, 64, 19, 120, 75),
}
