"""Every provider x kind of key x envelope, before openssl, our verifier and the real notation.

To add a provider, write a context manager like those below and decorate it with ``@provider``:
it gets an empty directory and yields a function from a key spec, such as "RSA-3072", to a Signer,
opened by its URI, whose certificate chain goes up to a root. Where keys cannot be imported the
provider makes the key, and ``pki.make_leaf`` has no part in it: what counts is the Signer. Its
own errors belong into a file of its own.
"""

import contextlib

import pytest
from helpers import cli
from helpers_pkcs7 import ROOT_HASH
from notation import Layout, accepts
from pki import KEY_SPECS, Entity, make_intermediate, make_leaf, make_root, openssl, pem
from signing.kms_server import kms
from signing.softhsm import WITH_PIN, softhsm
from signing.vault_server import vault

from dmsign_fast.envelope.linux import root_hash_message
from dmsign_fast.envelope.media import FORMATS
from dmsign_fast.envelope.notary import check_envelope, parse_envelope, sign_manifest
from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import SigningError
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.signing.scheme import SCHEMES
from dmsign_fast.signing.signer import check_raw_signature

PROVIDERS = {}


def provider(function):
    """Put a provider into the suite."""
    PROVIDERS[function.__name__] = contextlib.contextmanager(function)
    return function


def entity_of(spec):
    return make_leaf(make_intermediate(make_root()), f"Signer {spec}", key=spec)


@provider
def file(directory):
    def signer(spec):
        files = entity_of(spec).write(directory / spec)
        return open_signer(f"file:{files.key}?cert={files.chain}")

    yield signer


@provider
def pkcs11(directory):
    with softhsm(directory) as hsm:
        token = hsm.token("suite")
        for number, issuer in enumerate((make_root(), make_intermediate(make_root()))):
            token.put(issuer, b"issuer%d" % number, "issuer", "certificate")
        for spec in KEY_SPECS:
            token.put(entity_of(spec), spec.encode(), spec)
        yield lambda spec: open_signer(token.uri(f"object={spec};type=private"), WITH_PIN)


@provider
def plugin(directory):
    """We are both sides: the host, and the plugin with a key in a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTATION_LIBEXEC", str(directory))
        assert cli("plugin", "install").exit_code == 0

        def signer(spec):
            files = entity_of(spec).write(directory / spec)
            options = KeyOptions(certificates=files.chain, config={"cert": str(files.chain)})
            return open_signer(f"plugin:dmsign?id=file:{files.key}", options)

        yield signer


@provider
def aws_kms(directory):
    with pytest.MonkeyPatch.context() as patch, kms(patch, directory) as server:

        def signer(spec):
            entity = entity_of(spec)
            chain = entity.write(directory / spec).chain
            return open_signer(f"aws-kms:{server.put(entity)}", KeyOptions(certificates=chain))

        yield signer


@provider
def azure_kv(directory):
    with pytest.MonkeyPatch.context() as patch, vault(patch, directory / "tls") as server:

        def signer(spec):
            entity = entity_of(spec)
            server.put(spec, entity)
            bundle = entity.write(directory / spec).bundle
            return open_signer(f"azure-kv://{server.host}/{spec}?ca_certs={bundle}")

        yield signer


@pytest.fixture(scope="module", params=list(PROVIDERS))
def signers(request, tmp_path_factory):
    with PROVIDERS[request.param](tmp_path_factory.mktemp(request.param)) as signer:
        yield {spec: signer(spec) for spec in KEY_SPECS}


@pytest.fixture(params=KEY_SPECS)
def signer(signers, request):
    found = signers[request.param]
    assert found.key_spec == request.param
    return found


def without_key(signer):
    leaf, *above = signer.certificate_chain
    assert above[-1].subject == above[-1].issuer
    return Entity(None, leaf, tuple(above))


def test_pkcs7(signer, tmp_path):
    chain = signer.certificate_chain
    (tmp_path / "chain.pem").write_bytes(pem(*chain))
    (tmp_path / "content").write_bytes(root_hash_message(ROOT_HASH))
    for scheme in SCHEMES:
        if signer.key_spec not in scheme.key_specs or not scheme.pkcs7_signature:
            continue
        signature = sign_root_hash(ROOT_HASH, signer, digest=scheme.digest)
        verdict = verify_root_hash(signature, ROOT_HASH, TrustAnchors(chain[-1:]))
        assert verdict.scheme == scheme.name
        (tmp_path / "signature").write_bytes(signature)
        for program in ("smime", "cms"):
            options = ("-binary", "-inform", "DER", "-CAfile", "chain.pem", "-purpose", "any")
            files = ("-in", "signature", "-content", "content")
            openssl(program, "-verify", *options, *files, cwd=tmp_path)


@pytest.mark.parametrize("media_type", FORMATS)
def test_jws_and_cose(signer, media_type, tmp_path):
    layout = Layout(tmp_path / "oci")
    envelope = sign_manifest(layout.image, signer, media_type=media_type)
    check_envelope(parse_envelope(envelope, media_type), target=layout.image)
    done = accepts(tmp_path / "home", layout, envelope, media_type, without_key(signer))
    assert done.exit_code == 0, done.err
    assert "Successfully verified signature" in done.out


def test_each_scheme_and_no_other(signer):
    for scheme in SCHEMES:
        for message in (b"", b"message", bytes(3 << 20)):
            if signer.key_spec in scheme.key_specs:
                signature = signer.sign(message, scheme)
                check_raw_signature(signer.certificate_chain[0], message, signature, scheme)
            else:
                with pytest.raises(SigningError, match=f"{signer.key_spec} cannot make a {scheme}"):
                    signer.sign(message, scheme)
