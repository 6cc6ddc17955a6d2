"""Azure Key Vault by the real SDK: what is asked of it, and each way in which it does not sign."""

import base64
import logging

import pytest
from azure.core.pipeline.transport import RequestsTransport
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from helpers import dmsign, write
from helpers_pkcs7 import ROOT_HASH
from notation import Layout
from pki import Entity, make_intermediate, make_key, make_leaf, make_root, pem
from signing.vault_server import SECRET, RefusedError, b64, vault

from dmsign_fast.envelope.pkcs7 import sign_root_hash
from dmsign_fast.errors import FormatError, ParameterError, SigningError
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.signing.scheme import SCHEMES, notary_scheme
from dmsign_fast.signing.signer import check_raw_signature

ES256 = SCHEMES[6]


@pytest.fixture
def server(monkeypatch, tmp_path):
    with vault(monkeypatch, tmp_path / "tls") as server:
        yield server


@pytest.fixture
def slept(monkeypatch):
    """How long the SDK would have slept, each time."""
    seconds = []
    monkeypatch.setattr(RequestsTransport, "sleep", lambda self, one: seconds.append(one))
    return seconds


@pytest.fixture
def entity():
    return make_leaf(make_intermediate(make_root()))


@pytest.fixture
def uri(server):
    """Of a key with a self-signed certificate."""
    server.put("key", make_leaf())
    return f"azure-kv://{server.host}/key"


def test_least_permissions(server, uri):
    signer = open_signer(uri)
    signer.sign(b"message", ES256)
    signer.sign(b"message", ES256)
    assert server.asked == ["certificates/get", "keys/sign", "keys/sign"]


def test_all_is_signed_with_the_version_that_was_the_latest(server, uri):
    first = open_signer(uri)
    version = server.put("key", make_leaf(name="Next"))
    check_raw_signature(first.certificate_chain[0], b"", first.sign(b"", ES256), ES256)
    second = open_signer(uri)
    assert first.certificate_chain != second.certificate_chain
    assert open_signer(f"{uri}/{version}").certificate_chain == second.certificate_chain
    assert open_signer(f"{uri}/{'1'.zfill(32)}").certificate_chain == first.certificate_chain
    for kind in ("keys", "certificates"):
        identity = f"https://{server.host}/{kind}/key/{version}"
        assert open_signer(f"azure-kv:{identity}").certificate_chain == second.certificate_chain


def test_another_version_than_asked_for(server, uri):
    server.changes["kid"] = f"https://{server.host}/keys/key/{'9' * 32}"
    with pytest.raises(
        SigningError, match=f"/key/0*1: .* answers with another version, {'9' * 32}"
    ):
        open_signer(f"{uri}/{'1'.zfill(32)}")


def test_a_signature_goes_to_the_vault_of_the_uri_only(server, uri):
    server.changes["kid"] = f"https://elsewhere.example/keys/other/{'1'.zfill(32)}"
    assert open_signer(uri).sign(b"", ES256)


@pytest.mark.parametrize("spec", ["RSA-3072", "EC-256", "EC-384", "EC-521"])
def test_certificates_from_a_file(spec, server, tmp_path):
    entity = make_leaf(make_root(), f"Signer {spec}", key=spec)
    server.put("key", entity)
    server.allowed = {"keys/get", "keys/sign"}
    options = KeyOptions(certificates=entity.write(tmp_path).chain)
    signer = open_signer(f"azure-kv://{server.host}/key", options)
    assert signer.certificate_chain == entity.chain
    scheme = notary_scheme(signer.key_spec)
    check_raw_signature(entity.certificate, b"message", signer.sign(b"message", scheme), scheme)
    assert server.asked == ["keys/get", "keys/sign"]
    other = KeyOptions(certificates=make_leaf(name="Other").write(tmp_path).chain)
    with pytest.raises(SigningError, match=r"chain.pem: wrong key for the certificate"):
        open_signer(f"azure-kv://{server.host}/key", other)


def test_keys_of_other_kinds(server, tmp_path):
    good = make_leaf()
    server.allowed.add("keys/get")
    options = KeyOptions(certificates=good.write(tmp_path).chain)
    server.put("key", Entity(make_key("EC-256K1"), good.certificate))
    with pytest.raises(SigningError, match="/key: no support for a key of the kind EC P-256K; use"):
        open_signer(f"azure-kv://{server.host}/key", options)
    for kind in ("EC-256K1", "RSA-1024"):
        server.put("key", make_leaf(key=kind, name=kind))
        with pytest.raises(SigningError, match=r"/key/0.*: no support for a key of the kind"):
            open_signer(f"azure-kv://{server.host}/key")


def test_what_completes_the_chain(server, entity, tmp_path):
    server.put("key", entity)
    uri, files = f"azure-kv://{server.host}/key", entity.write(tmp_path)
    for more in ("", "?self_signed=true", "?self_signed=false"):
        with pytest.raises(SigningError, match=r"issued by CN=.*: give .* ca_certs=FILE, or"):
            open_signer(uri + more)
    for name in ("bundle", "chain"):
        path = getattr(files, name)
        assert open_signer(f"{uri}?ca_certs={path}").certificate_chain == entity.chain
        config = KeyOptions(config={"ca_certs": str(path)})
        assert open_signer(uri, config).certificate_chain == entity.chain
    assert "secrets/get" not in server.asked
    server.put("own", make_leaf())
    for more in ("", "?self_signed=true"):
        assert len(open_signer(f"azure-kv://{server.host}/own{more}").certificate_chain) == 1
    write(tmp_path / "wrong", pem(make_root("Unrelated").certificate))
    with pytest.raises(SigningError, match="Unrelated is not in the chain of CN=Test Signer"):
        open_signer(f"{uri}?ca_certs={tmp_path}/wrong")


def pkcs12(entity, key):
    made = serialize_key_and_certificates(
        None, key, entity.certificate, entity.above, NoEncryption()
    )
    return "application/x-pkcs12", base64.b64encode(made).decode()


def test_the_chain_from_the_secret(server, entity):
    server.put("key", entity)
    uri = f"azure-kv://{server.host}/key?chain=secret"
    with pytest.raises(SigningError, match="403: does not have secrets/get permission"):
        open_signer(uri)
    server.allowed.add("secrets/get")
    text = pem(*entity.chain).decode()
    for secret in (
        pkcs12(entity, None),
        pkcs12(entity, entity.key),
        ("application/x-pem-file", text),
        ("application/x-pem-file", entity.key_pem().decode() + text),
    ):
        server.secrets["key"] = secret
        signer = open_signer(uri)
        assert signer.certificate_chain == entity.chain
    for secret in (
        ("application/x-pkcs12", text),
        ("application/x-pkcs12", "AAAA"),
        ("application/x-pem-file", "text"),
        ("text/plain", text),
    ):
        server.secrets["key"] = secret
        with pytest.raises(SigningError, match=f"its content type is {secret[0]}"):
            open_signer(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "azure-kv:",
        "azure-kv:vault/name",
        "azure-kv://vault",
        "azure-kv://vault/",
        "azure-kv://vault/a/b/c",
        "azure-kv://vault/a_b",
        "azure-kv://vault/keys/name",
        "azure-kv:HTTPS://vault.vault.azure.net/keys/name",
        "azure-kv:https://vault.vault.azure.net/keys/a/b",
        "azure-kv://vault/name?chain=secret&chain=secret",
        "azure-kv://user@vault/name",
        "azure-kv://vault/name?self_signed",
        "azure-kv:http://vault.vault.azure.net/keys/name",
        "azure-kv:https://vault.vault.azure.net/name",
        "azure-kv:https://vault.vault.azure.net/secrets/name",
        "azure-kv://vault/name\n",
    ],
)
def test_what_is_not_the_uri_of_a_key(uri):
    with pytest.raises(ParameterError, match="is not azure-kv://VAULT/NAME"):
        open_signer(uri)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("colour=red", "colour is no option of azure-kv: it has ca_certs, chain, cred"),
        ("self_signed=yes", "self_signed=yes is not one of true, false"),
        ("credential_type=magic", "credential_type=magic is not one of default, environment"),
        ("SELF_SIGNED=true", "SELF_SIGNED is no option"),
        ("chain=vault", "chain=vault is not one of secret"),
        ("chain=secret&ca_certs=a", "of ca_certs and chain only one"),
        ("self_signed=true&ca_certs=a", "of ca_certs and self_signed only one"),
    ],
)
def test_options_that_are_refused(query, message):
    with pytest.raises(ParameterError, match=message):
        open_signer(f"azure-kv://vault/name?{query}")


def test_vaults_by_name(slept, monkeypatch):
    """A name is a host in Azure's domain, which no test may reach."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for host, whole in (("some", "some.vault.azure.net"), ("a.vault.azure.cn",) * 2):
        with pytest.raises(SigningError, match=f"cannot be asked for {whole}/name: .*proxy"):
            open_signer(f"azure-kv://{host}/name?credential_type=environment")


def test_no_such_key(server):
    with pytest.raises(SigningError, match="404: certificates other/ was not found; check the"):
        open_signer(f"azure-kv://{server.host}/other")


def test_forbidden_and_disabled(server, uri):
    signer = open_signer(uri)
    server.faults.append(RefusedError(403, "Forbidden", "not allowed on a disabled key."))
    with pytest.raises(SigningError, match=r"/key/0*1: 403: not allowed on a disabled key.; allow"):
        signer.sign(b"", ES256)
    server.allowed.clear()
    with pytest.raises(SigningError, match="403: does not have certificates/get permission"):
        open_signer(uri)


def test_a_credential_that_expired_or_was_revoked(server, uri):
    signer = open_signer(uri)
    server.revoked = True
    for act in (lambda: signer.sign(b"", ES256), lambda: open_signer(uri)):
        with pytest.raises(
            SigningError, match=r"no access to .*/key.*AKV10000: .*; renew the cred"
        ):
            act()
    server.revoked, server.expired = False, True
    with pytest.raises(SigningError, match=r"no access to .*/key.*AADSTS7000222.*; renew the cred"):
        open_signer(uri)


def test_credentials_that_are_not_there(server, uri, monkeypatch):
    assert open_signer(f"{uri}?credential_type=Environment").key_spec == "EC-256"
    monkeypatch.delenv("AZURE_CLIENT_SECRET")
    monkeypatch.setenv("PATH", "")
    for name in ("environment", "workloadid", "azurecli"):
        with pytest.raises(
            SigningError, match=r"/key in Azure Key Vault|cannot be asked for .*/key"
        ):
            open_signer(f"{uri}?credential_type={name}")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_throttling_is_retried_and_not_for_ever(status, server, uri, slept):
    signer = open_signer(uri)
    slept.clear()
    busy = RefusedError(status, "Busy", "try again")
    server.faults += [busy] * 3
    assert signer.sign(b"", ES256)
    assert not server.faults
    server.faults += [busy] * 9
    with pytest.raises(SigningError, match=f"{status}: try again"):
        signer.sign(b"", ES256)
    assert len(server.faults) == 5
    assert 0 < sum(slept) < 60


def test_how_long_to_wait_is_for_the_vault_to_say_within_reason(server, uri, slept):
    signer = open_signer(uri)
    for said, waited in (("7", 7), ("86400", 60)):
        slept.clear()
        busy = RefusedError(429, "Throttled", "wait", **{"Retry-After": said})
        server.faults.append(busy)
        assert signer.sign(b"", ES256)
        assert slept == [waited]


def test_no_network_and_no_trust(server, uri, slept, monkeypatch):
    signer = open_signer(uri)
    with pytest.raises(SigningError, match=r"cannot be asked for 127.0.0.1:1/key: .*refused"):
        open_signer("azure-kv://127.0.0.1:1/key")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(SigningError, match=r"cannot be asked for .*CERTIFICATE_VERIFY_FAILED"):
        signer.sign(b"", ES256)


def test_no_token_is_asked_for_on_behalf_of_another_domain(server, uri):
    server.domain = "elsewhere.example"
    with pytest.raises(SigningError, match=r"elsewhere.example' does not match the requested"):
        open_signer(uri)
    assert not server.tokens


@pytest.mark.parametrize("value", ["", b64(bytes(63)), b64(bytes(64)), b64(bytes(range(1, 65)))])
def test_answers_that_are_no_signature(value, server, uri):
    signer = open_signer(uri)
    server.changes["value"] = value
    with pytest.raises(SigningError, match="answer is not a ecdsa-sha256 signature"):
        sign_root_hash(ROOT_HASH, signer)


def test_answers_that_are_no_certificate(server, uri):
    for cer in (None, "AAAA"):
        server.changes["cer"] = cer
        with pytest.raises(FormatError, match="certificate cannot be parsed"):
            open_signer(uri)


def test_nothing_shows_the_secrets(server, uri, caplog):
    caplog.set_level(logging.DEBUG)
    signer = open_signer(uri)
    signer.sign(b"", ES256)
    server.expired = True
    with pytest.raises(SigningError) as refused:
        open_signer(uri)
    shown = caplog.text + repr(signer) + str(refused.value)
    assert server.tokens
    assert not any(secret in shown for secret in (SECRET, *server.tokens))


def test_the_command_line(server, tmp_path):
    entity = make_leaf(make_root(), "RSA", key="RSA-2048")
    server.put("key", entity)
    layout, bundle = Layout(tmp_path / "oci"), entity.write(tmp_path).bundle
    target = ("sign", "--oci-layout", f"{layout.root}:v1", "--no-dm-verity")
    target += ("--key", f"azure-kv://{server.host}/key", "--plugin-config", f"ca_certs={bundle}")
    server.expired = True
    denied = dmsign(*target)
    assert denied.exit_code == 5
    assert "AADSTS7000222" in denied.err
    assert denied.err.count("AADSTS7000222") == 1  # and not again from the SDK's log
    assert SECRET not in denied.err
    assert not layout.signatures()
    server.expired = False
    done = dmsign(*target)
    assert done.exit_code == 0, done.err
    assert layout.signatures()
