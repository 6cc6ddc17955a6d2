"""A PKI whose certificates name a CRL or a responder, and what these answer."""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID as Access
from pki import DAY, NOW, make_intermediate, make_leaf, make_root

CA_USAGE = ("key_cert_sign", "crl_sign")
ROOT = make_root("Root", usage=CA_USAGE)
ISSUER = make_intermediate(ROOT, "Issuer", usage=CA_USAGE)
OTHER = make_intermediate(ROOT, "Other", usage=CA_USAGE)


@dataclass
class Pki:
    """A leaf whose certificate names a CRL or a responder at ``url``, and what these answer."""

    url: str
    revoked: bool = False
    end: object = NOW + DAY
    signer: object = ISSUER
    broken: bool = False
    asked: list = field(default_factory=list)

    def leaf(self, *, crl=False, responder=False):
        name = x509.UniformResourceIdentifier(self.url)
        extensions = []
        if crl:
            point = x509.DistributionPoint([name], None, None, None)
            extensions.append((x509.CRLDistributionPoints([point]), False))
        if responder:
            access = x509.AccessDescription(Access.OCSP, name)
            extensions.append((x509.AuthorityInformationAccess([access]), False))
        self.entity = make_leaf(ISSUER, f"leaf {crl} {responder}", extensions=tuple(extensions))
        return self.entity

    def answer(self, request: bytes) -> bytes:
        self.asked.append(request)
        if self.broken:
            return b"broken"
        return self._responder(request) if request else self._crl()

    def _crl(self) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ISSUER.certificate.subject)
            .last_update(NOW - 9 * DAY)
            .next_update(self.end)
            .add_extension(x509.CRLNumber(1), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ISSUER.key.public_key()), False
            )
        )
        if self.revoked:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(self.entity.certificate.serial_number)
                .revocation_date(NOW - 2 * DAY)
            )
            builder = builder.add_revoked_certificate(entry.build())
        made = builder.sign(self.signer.key, hashes.SHA256())
        return made.public_bytes(Encoding.DER)

    def _responder(self, request: bytes) -> bytes:
        asked = ocsp.load_der_ocsp_request(request)
        status = ocsp.OCSPCertStatus.REVOKED if self.revoked else ocsp.OCSPCertStatus.GOOD
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=self.entity.certificate,
                issuer=ISSUER.certificate,
                algorithm=asked.hash_algorithm,
                cert_status=status,
                this_update=NOW - 9 * DAY,
                next_update=self.end,
                revocation_time=NOW - 2 * DAY if self.revoked else None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.NAME, self.signer.certificate)
        )
        for one in asked.extensions:
            builder = builder.add_extension(one.value, one.critical)
        made = builder.sign(self.signer.key, hashes.SHA256())
        return made.public_bytes(Encoding.DER)
