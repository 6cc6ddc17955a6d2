"""Azure Key Vault and the authority that gives out its tokens, over HTTPS on the loopback.

    with vault(monkeypatch, directory) as server:
        server.put("release", entity)
        open_signer(f"azure-kv://{server.host}/release", KeyOptions())

What the REST reference of Key Vault requires is required here. The SDK holds that the vault's
host is within the domain that the challenge names: of 127.0.0.1 that is 0.0.1. The authority is of
the kind AD FS, which is the one that MSAL does not look up at login.microsoftonline.com first.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import ssl
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from pki import Entity, der, make_leaf, make_root

SECRET = "a-client-secret"
ID_TOKEN = "a-token-of-the-workload"  # by another authority, which this one believes
_API_VERSIONS = {"7.4", "7.5", "7.6", "2025-07-01"}
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_ES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


class RefusedError(Exception):
    def __init__(self, status, code, message, **headers):
        super().__init__(message)
        self.status, self.headers = status, headers
        self.body = {"error": {"code": code, "message": message}}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Vault:
    """What it holds by name and version, who may do what, and what is answered instead."""

    host: str = ""
    held: dict[str, dict[str, Entity]] = field(default_factory=dict)
    secrets: dict[str, tuple[str, str]] = field(default_factory=dict)  # type and value, by name
    allowed: set[str] = field(default_factory=lambda: {"certificates/get", "keys/sign"})
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    expired: bool = False  # the client's secret
    revoked: bool = False  # what the authority still gives tokens for
    domain: str = ""  # that the challenge names, by default the vault's
    faults: list[RefusedError] = field(default_factory=list)
    changes: dict[str, object] = field(default_factory=dict)

    def put(self, name: str, entity: Entity) -> str:
        """Add a version, which becomes the latest, and return it."""
        versions = self.held.setdefault(name, {})
        version = f"{len(versions) + 1:032x}"
        versions[version] = entity
        return version

    def token(self, form: dict[str, str]) -> dict:
        assert form["grant_type"] == "client_credentials"
        assert form["client_id"] == "a-client"
        if "client_assertion" in form:
            assert form["client_assertion_type"].endswith(":jwt-bearer")
            assert form["client_assertion"] == ID_TOKEN
        else:
            assert form["client_secret"] == SECRET
        assert form["scope"].split()[0] == f"https://{self.host.removeprefix('127.')}/.default"
        if self.expired:
            return {"error": "invalid_client", "error_description": "AADSTS7000222: keys expired."}
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return {"token_type": "Bearer", "expires_in": 3600, "access_token": token}

    def answer(self, method: str, url: str, headers, body: bytes) -> dict:
        parts = urlsplit(url)
        kind, name, version, action = [*parts.path.split("/")[1:], "", "", ""][:4]
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if self.revoked or scheme != "Bearer" or token not in self.tokens:
            resource = f"https://{self.domain or self.host.removeprefix('127.')}"
            challenge = f'authorization="https://{self.host}/adfs", resource="{resource}"'
            header = {"WWW-Authenticate": f"Bearer {challenge}"}
            raise RefusedError(401, "Unauthorized", "AKV10000: Request lacks a token", **header)
        wanted = f"{kind}/{action or 'get'}"
        self.asked.append(wanted)
        if self.faults:
            raise self.faults.pop(0)
        if parse_qs(parts.query).get("api-version", [""])[0] not in _API_VERSIONS:
            raise RefusedError(400, "BadParameter", "api-version must be specified")
        if wanted not in self.allowed:
            raise RefusedError(403, "Forbidden", f"does not have {wanted} permission on key vault")
        entity = self.held.get(name, {}).get(version or [*self.held.get(name, {""})][-1])
        if entity is None:
            raise RefusedError(404, "NotFound", f"{kind} {name}/{version} was not found")
        version = version or [*self.held[name]][-1]
        identity = f"https://{self.host}/{{}}/{name}/{version}"
        act = {
            "GET certificates/get": self.certificate,
            "GET keys/get": self.key,
            "GET secrets/get": lambda *_: dict(
                zip(("contentType", "value"), self.secrets[name], strict=True)
            ),
            "POST keys/sign": self.sign,
        }[f"{method} {wanted}"]
        return act(identity, entity, json.loads(body or b"{}")) | self.changes

    def certificate(self, identity, entity, _):
        return {
            "id": identity.format("certificates"),
            "kid": identity.format("keys"),
            "sid": identity.format("secrets"),
            "cer": base64.b64encode(der(entity.certificate)).decode(),
            "attributes": {"enabled": True},
        }

    def key(self, identity, entity, _):
        return {"key": {"kid": identity.format("keys"), **jwk(entity)}, "attributes": {}}

    def sign(self, identity, entity, asked):
        assert set(asked) == {"alg", "value"}
        algorithm, digest = asked["alg"], unb64(asked["value"])
        known = jwk(entity)
        fits = algorithm == _ES[known["crv"]] if "crv" in known else algorithm[:2] in ("RS", "PS")
        if not fits:
            raise RefusedError(400, "BadParameter", "Key and signing algorithm are incompatible")
        hashed = _HASHES[algorithm[2:]]
        if len(digest) != hashed.digest_size:
            raise RefusedError(400, "BadParameter", "Invalid length of value for the algorithm")
        if "crv" in known:
            made = entity.key.sign(digest, ec.ECDSA(Prehashed(hashed)))
            size = (entity.key.key_size + 7) // 8
            made = b"".join(one.to_bytes(size) for one in decode_dss_signature(made))
        else:
            pss = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
            used = pss if algorithm[:2] == "PS" else padding.PKCS1v15()
            made = entity.key.sign(digest, used, Prehashed(hashed))
        return {"kid": identity.format("keys"), "value": b64(made)}


def jwk(entity: Entity) -> dict[str, str]:
    numbers = entity.key.public_key().public_numbers()
    if isinstance(entity.key, rsa.RSAPrivateKey):
        kept = {"n": numbers.n.to_bytes(entity.key.key_size // 8), "e": b"\1\0\1"}
        return {"kty": "RSA-HSM"} | {name: b64(value) for name, value in kept.items()}
    curve, size = entity.key.curve, (entity.key.key_size + 7) // 8
    point = {"x": b64(numbers.x.to_bytes(size)), "y": b64(numbers.y.to_bytes(size))}
    return {"kty": "EC", "crv": _CURVES.get(curve.name, "P-256K"), **point}


def handler_of(server: Vault):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/adfs/.well-known/openid-configuration"):
                base = f"https://{server.host}/adfs"
                places = {name: f"{base}/{name}" for name in ("authorization", "token")}
                found = {f"{name}_endpoint": place for name, place in places.items()}
                return self.respond(200, {"issuer": base} | found)
            return self.do_vault("GET", b"")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path in ("/adfs/token", "/adfs/oauth2/v2.0/token"):  # MSAL, and without it
                form = {name: one[0] for name, one in parse_qs(body.decode()).items()}
                found = server.token(form)
                return self.respond(401 if "error" in found else 200, found)
            return self.do_vault("POST", body)

        def do_vault(self, method, body):
            try:
                self.respond(200, server.answer(method, self.path, self.headers, body))
            except RefusedError as refused:
                self.respond(refused.status, refused.body, refused.headers)

        def respond(self, status, answer, headers=()):
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments):
            pass

    return Handler


class Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # a client that does not trust us hangs up
            super().handle_error(request, client_address)


@contextlib.contextmanager
def vault(monkeypatch, directory):
    """Run the server; the environment leads the SDK, and every process started here, to it."""
    name = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    files = make_leaf(make_root("TLS Root"), "TLS", extensions=((name, False),)).write(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    server = Vault()
    with Listener(("127.0.0.1", 0), handler_of(server)) as listener:
        listener.socket = context.wrap_socket(
            listener.socket, server_side=True, do_handshake_on_connect=False
        )
        server.host = f"127.0.0.1:{listener.server_port}"
        environment = {
            "AZURE_AUTHORITY_HOST": server.host,
            "AZURE_TENANT_ID": "adfs",
            "AZURE_CLIENT_ID": "a-client",
            "AZURE_CLIENT_SECRET": SECRET,
            "REQUESTS_CA_BUNDLE": str(files.root),
        }
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
