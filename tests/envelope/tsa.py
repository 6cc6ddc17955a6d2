"""A timestamp authority on the loopback: ``openssl ts`` behind a little HTTP server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote

from asn1crypto import cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.oid import ExtendedKeyUsageOID
from pki import NOW, Entity, der, make_entity, make_intermediate, make_root, openssl

_CONFIG = """\
[tsa]
serial = {directory}/serial
signer_cert = {directory}/leaf.pem
signer_key = {directory}/key.pem
certs = {directory}/bundle.pem
signer_digest = {digest}
digests = sha256, sha384, sha512
default_policy = 1.2.3.4
accuracy = {accuracy}
ess_cert_id_alg = {ess}
"""
TIMESTAMPING = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)


def make_tsa(issuer: Entity | None = None, name: str = "Test TSA", **options) -> Entity:
    """Make a certificate for timestamps, below an intermediate and a root of its own."""
    issuer = issuer or make_intermediate(make_root("TSA Root"), "TSA Intermediate")
    usual = {"usage": ("digital_signature",), "extensions": (TIMESTAMPING,), "key": "RSA-2048"}
    return make_entity(name, issuer, **usual | options)


@dataclass
class Authority:
    """Answers requests; ``requests`` are those it got over HTTP."""

    entity: Entity
    directory: Path
    digest: str = "sha256"
    ess: str = "sha256"
    accuracy: str = "secs:1, millisecs:500, microsecs:100"
    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self):
        self.entity.write(self.directory)
        (self.directory / "serial").write_text("01")
        config = _CONFIG.format(**vars(self))
        (self.directory / "tsa.cnf").write_text(config)

    def answer(self, request: bytes, *options: str) -> bytes:
        (self.directory / "request").write_bytes(request)
        openssl(
            *("ts", "-reply", "-config", "tsa.cnf", "-section", "tsa"),
            *("-queryfile", "request", "-out", "response", *options),
            cwd=self.directory,
        )
        return (self.directory / "response").read_bytes()


def forge_token(
    entity: Entity,
    message: bytes,
    *,
    when: datetime = NOW,
    accuracy: int = 0,
    embedded=None,
    imprint="sha256",
    version="v3",
    attributes=(),
    identify=lambda identifier: identifier,
    signers=lambda infos: infos,
) -> bytes:
    """Return a token by a certificate that ``openssl ts`` would not use.

    ``attributes`` are signed as well; ``identify`` changes the ESSCertIDv2, ``signers`` the list of
    signers, after they have signed.
    """
    info = tsp.TSTInfo(
        {
            "version": "v1",
            "policy": "1.2.3.4",
            "message_imprint": {
                "hash_algorithm": {"algorithm": imprint},
                "hashed_message": hashlib.new(imprint, message).digest(),
            },
            "serial_number": 1,
            "gen_time": when,
            **({"accuracy": {"seconds": accuracy}} if accuracy else {}),
        }
    )
    leaf = asn1_x509.Certificate.load(der(entity.certificate))
    identifier = identify({"cert_hash": hashlib.sha256(leaf.dump()).digest()})
    signed_attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "message_digest", "values": [hashlib.sha256(info.dump()).digest()]},
            {
                "type": "signing_certificate_v2",
                "values": [tsp.SigningCertificateV2({"certs": [identifier] if identifier else []})],
            },
            *attributes,
        ]
    )
    signer = {
        "version": "v1",
        "sid": cms.SignerIdentifier(
            "issuer_and_serial_number",
            {"issuer": leaf.issuer, "serial_number": leaf.serial_number},
        ),
        "digest_algorithm": {"algorithm": "sha256"},
        "signed_attrs": signed_attributes,
        "signature_algorithm": {"algorithm": "rsassa_pkcs1v15"},
        "signature": entity.key.sign(signed_attributes.dump(), padding.PKCS1v15(), hashes.SHA256()),
    }
    signed = cms.SignedData(
        {
            "version": version,
            "digest_algorithms": [{"algorithm": "sha256"}],
            "encap_content_info": {
                "content_type": "tst_info",
                "content": core.ParsableOctetString(info.dump()),
            },
            "certificates": [
                cms.CertificateChoices("certificate", asn1_x509.Certificate.load(der(one)))
                for one in (entity.chain if embedded is None else embedded)
            ],
            "signer_infos": signers([signer]),
        }
    )
    return cms.ContentInfo({"content_type": "signed_data", "content": signed}).dump()


@contextlib.contextmanager
def serve(answer, kind: str = "application/timestamp-reply", status: int = 200) -> Iterator[str]:
    """Serve what ``answer`` returns for a POST's body or a GET's path, and yield the URL.

    The path is base64, as OCSP has it (RFC 6960, appendix A.1).
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.respond(self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self):
            self.respond(base64.b64decode(unquote(self.path[1:])))

        def respond(self, request):
            body = answer(request)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
