"""A plugin of notation that owes nothing to our code: a good one, or with one thing wrong.

    home = make_plugin(tmp_path / "libexec", leaf)                        # NOTATION_LIBEXEC
    home = make_plugin(tmp_path / "libexec", leaf, wrong="signs as PSS")

``home / "requests"`` has what it was asked, each a line of JSON with the command.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pki import Entity

RAW, ENVELOPE = "SIGNATURE_GENERATOR.RAW", "SIGNATURE_GENERATOR.ENVELOPE"
TRUSTED_IDENTITY = "SIGNATURE_VERIFIER.TRUSTED_IDENTITY"
REVOCATION_CHECK = "SIGNATURE_VERIFIER.REVOCATION_CHECK"
AUTHORITY = "is a signing authority"  # as AWS Signer's
_SCRIPT = """\
#!{python}
import sys
sys.path[:0] = {path!r}
from a_plugin import main
main({home!r}, {key_spec!r}, {capabilities!r}, {wrong!r})
"""


def make_plugin(
    libexec: Path, entity: Entity, name="test", *, capabilities=(RAW,), wrong: str = ""
) -> Path:
    """Install it and return the directory that is its own."""
    home = libexec / "plugins" / name
    entity.write(home / "keys")
    here = Path(__file__).parent
    script = _SCRIPT.format(
        python=sys.executable,
        path=[str(here), str(here / "envelope")],
        home=str(home),
        key_spec=_key_spec(entity),
        capabilities=list(capabilities),
        wrong=wrong,
    )
    path = home / f"notation-{name}"
    path.write_text(script)
    path.chmod(0o755)
    return home


def requests(home: Path, command: str) -> list[dict]:
    path = home / "requests"
    lines = path.read_text().splitlines() if path.exists() else []
    return [one["request"] for one in map(json.loads, lines) if one["command"] == command]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# how any command can fail

FAILURES = {
    "hangs": lambda: (os.fork() or time.sleep(600), time.sleep(600)),
    "floods stdout": lambda: _write_for_ever(1),
    "floods stderr": lambda: _write_for_ever(2),
    "dies": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "fails in text": lambda: sys.exit("no route to the vault"),
    "fails silently": lambda: sys.exit(3),
    "fails in JSON": lambda: sys.exit(
        json.dumps({"errorCode": "ACCESS_DENIED", "errorMessage": "not your key"})
    ),
    "fails in JSON after a log": lambda: sys.exit(
        "warning: slow\n" + json.dumps({"errorCode": "THROTTLED", "errorMessage": "too\nfast"})
    ),
    "says nothing": lambda: sys.exit(0),
    "says text": lambda: (print("done"), sys.exit(0)),
    "says two things": lambda: (print("{}{}"), sys.exit(0)),
    "says a list": lambda: (print("[]"), sys.exit(0)),
    "says too little": lambda: (print("{}"), sys.exit(0)),
}


def _write_for_ever(fd: int) -> None:
    while True:
        os.write(fd, b"x" * 65536)


# what one answer can have wrong: the answer and the request make it

ANSWERS = {
    "is another plugin": ("get-plugin-metadata", {"name": "other"}),
    "has no version": ("get-plugin-metadata", {"version": ""}),
    "speaks contract 2.0": ("get-plugin-metadata", {"supportedContractVersions": ["2.0"]}),
    "does not sign": (
        "get-plugin-metadata",
        {"capabilities": ["SIGNATURE_VERIFIER.TRUSTED_IDENTITY"]},
    ),
    "describes another key": ("describe-key", {"keyId": "other"}),
    "has a key of no kind": ("describe-key", {"keySpec": "RSA-1024"}),
    "has a key of another kind": ("describe-key", {"keySpec": "RSA-3072"}),
    "signs with another key id": ("generate-signature", {"keyId": "other"}),
    "has no certificates": ("generate-signature", {"certificateChain": []}),
    "has certificates of garbage": ("generate-signature", {"certificateChain": ["AAAA"]}),
    "has certificates in no base64": ("generate-signature", {"certificateChain": ["*"]}),
    "has a signature in no base64": ("generate-signature", {"signature": "*"}),
    "has an empty signature": ("generate-signature", {"signature": ""}),
    "has a wrong signature": ("generate-signature", {"signature": b64(bytes(256))}),
    "has a short signature": ("generate-signature", {"signature": b64(bytes(63))}),
    "has another algorithm": ("generate-signature", {"signingAlgorithm": "RSASSA-PSS-SHA-1"}),
    "answers in another format": ("generate-envelope", {"signatureEnvelopeType": "text/plain"}),
    "has an envelope of garbage": ("generate-envelope", {"signatureEnvelope": "AAAA"}),
    "has annotations of numbers": ("generate-envelope", {"annotations": {"a": 1}}),
}


def main(home: str, key_spec: str, capabilities: list[str], wrong: str) -> None:
    command, home = sys.argv[1], Path(home)
    request = json.loads(sys.stdin.read() or "{}")
    with (home / "requests").open("a") as file:
        secret = os.environ.get("NOTATION_PASSWORD")
        print(json.dumps({"command": command, "request": request, "saw": secret}), file=file)
    at, _, failure = wrong.partition(": ")
    if at == command:
        FAILURES[failure]()
    if command == "get-plugin-metadata":
        said = {
            "name": home.name,
            "description": "for tests",
            "version": "1.0.0",
            "url": "https://example.com",
            "supportedContractVersions": ["1.0"],
            "capabilities": capabilities,
            "of another version": True,
        }
    elif command == "describe-key":
        said = {"keyId": request["keyId"], "keySpec": key_spec}
    elif command == "generate-signature":
        said = _signature(_entity(home), request, wrong)
    elif command == "verify-signature":
        said = _verification(request, wrong)
    else:
        said = _envelope(_entity(home), request, wrong, home.name)
    where, changes = ANSWERS.get(wrong, ("", {}))
    print(json.dumps(said | (changes if where == command else {})))


def _verification(request: dict, wrong: str) -> dict:
    wanted = request["trustPolicy"]["signatureVerification"]
    results = {one: {"success": True, "reason": "well known"} for one in wanted}
    processed = request["signature"]["unprocessedAttributes"] or []
    if wrong == "knows no identity":
        results[TRUSTED_IDENTITY] = {"success": False, "reason": "who is that"}
    if wrong == "says revoked":
        results[REVOCATION_CHECK] = {"success": False, "reason": "revoked it"}
    if wrong == "leaves a result out":
        results.popitem()
    if wrong == "leaves a header out":
        processed = processed[:-1]
    if wrong == "leaves the reason out":
        results = {one: {"success": True} for one in wanted}
    if wrong == "says yes":
        results = dict.fromkeys(wanted, "yes")
    if wrong == "says success in text":
        results = {one: {"success": "true"} for one in wanted}
    return {"verificationResults": results, "processedAttributes": processed}


def _entity(home: Path) -> Entity:
    # imports that take long, and that only this needs
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from pki import Entity

    key = load_pem_private_key((home / "keys/key.pem").read_bytes(), None)
    leaf, *above = x509.load_pem_x509_certificates((home / "keys/chain.pem").read_bytes())
    return Entity(key, leaf, tuple(above))


def _other(entity: Entity) -> Entity:
    """Somebody else, with a key of the same kind."""
    from pki import make_leaf, make_root

    return make_leaf(make_root("Other"), "Other", key=_key_spec(entity))


def _key_spec(entity: Entity) -> str:
    return f"{'EC' if hasattr(entity.key, 'curve') else 'RSA'}-{entity.key.key_size}"


def _signature(entity: Entity, request: dict, wrong: str) -> dict:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from forge import raw_sign
    from pki import der

    payload, chain, key = base64.b64decode(request["payload"]), entity.chain, entity.key
    pkcs1 = request.get("pluginConfig", {}).get("signing_scheme") == "rsassa-pkcs1-v1_5"
    size = request["hashAlgorithm"].removeprefix("SHA-")
    if wrong == "chooses the hash" and pkcs1:
        size = "512"
    family = "ES"
    if _key_spec(entity).startswith("RSA"):
        family = "RS" if pkcs1 else "PS"
        family = {"signs as PSS": "PS", "signs as PKCS#1": "RS"}.get(wrong, family)
    if wrong == "signs something else":
        payload += b"\n"
    if wrong == "signs with another key":
        key = _other(entity).key
    raw = raw_sign(key, payload, family + size)
    if wrong == "signs as DER":
        half = len(raw) // 2
        raw = encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
    if wrong == "shows a foreign certificate":
        chain = (*chain, _other(entity).certificate)
    if wrong == "shows another key's certificate":
        chain = _other(entity).chain
    name = {"RS": "RSASSA-PKCS1-v1_5", "PS": "RSASSA-PSS", "ES": "ECDSA"}[family]
    if family == "RS" and wrong == "signs as PKCS#1":
        name = "RSASSA-PSS"  # and so it lies of it as well
    return {
        "keyId": request["keyId"],
        "signature": b64(raw),
        "signingAlgorithm": f"{name}-SHA-{size}",
        "certificateChain": [b64(der(one)) for one in chain],
    }


def _envelope(entity: Entity, request: dict, wrong: str, name: str) -> dict:
    import cbor2
    from forge import ABSENT, forge_cose, forge_jws

    payload = json.loads(base64.b64decode(request["payload"]))
    target = payload["targetArtifact"]
    if wrong == "signs another descriptor":
        target["digest"] = f"sha256:{'0' * 64}"
    if wrong == "changes an annotation":
        target["annotations"] = dict.fromkeys(target["annotations"], "changed")
    if wrong == "adds a member":
        target["urls"] = ["https://example.com"]
    if wrong == "adds to the payload":
        payload["more"] = 1
    if wrong == "binds root hashes":
        target.setdefault("annotations", {})["dmsign-fast.root-hashes"] = f"sha256:{'0' * 64}"
    if wrong == "":
        target.setdefault("annotations", {})["plugin"] = "was here"
    jws = request["signatureEnvelopeType"] == "application/jose+json"
    expires = request.get("expiryDurationInSeconds", 0)
    expires = {"never expires": 0, "expires soon": expires - 60}.get(wrong, expires)

    def moment(seconds):
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
        return text if jws else cbor2.CBORTag(1, seconds)

    protected: dict = {}
    critical = ["io.cncf.notary.signingScheme"]
    now = int(time.time())
    if wrong == AUTHORITY:
        protected |= {
            "io.cncf.notary.signingScheme": "notary.x509.signingAuthority",
            "io.cncf.notary.authenticSigningTime": moment(now),
            "io.cncf.notary.verificationPlugin": name,
            "io.cncf.notary.verificationPluginMinVersion": "1.0.0",
            "com.example.signingJob": "arn:example:1",
        }
        critical += [one for one in protected if one not in critical]
    if expires:
        critical.append("io.cncf.notary.expiry")
        protected["io.cncf.notary.expiry"] = moment(now + expires)
    if wrong == "has a critical header":
        critical.append("com.example.header")
        protected["com.example.header"] = "x"
    protected["io.cncf.notary.signingTime"] = ABSENT if wrong == AUTHORITY else moment(now)
    protected["crit" if jws else 2] = critical
    if wrong == "is by another key":
        entity = replace(entity, key=_other(entity).key)
    make = forge_jws if jws else forge_cose
    data = make(entity, {}, protected=protected, payload=json.dumps(payload).encode())
    return {
        "signatureEnvelope": b64(data),
        "signatureEnvelopeType": request["signatureEnvelopeType"],
        "annotations": {"by": "plugin", "org.opencontainers.image.created": "never"},
    }
