"""Keys on PKCS#11 tokens: SoftHSM 2, and SoftHSM behind faults.c for what it never does itself.

SoftHSM locks no token, is never removed, and has no keys to type on: faults.c answers for such.
"""

import os
import shutil
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import pkcs11
import pytest
from asn1crypto.core import PrintableString
from container_images import push_image, tars
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key
from helpers import cli, dmsign, noise, program, run, write
from helpers_pkcs7 import ROOT_HASH
from hypothesis import given
from hypothesis import strategies as st
from notation import SCOPE, Notation
from pkcs11 import Attribute, KeyType
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
from pki import (
    Entity,
    make_entity,
    make_expired_leaf,
    make_intermediate,
    make_leaf,
    make_root,
    pem,
)
from signing.softhsm import PIN, Token, build_faults, softhsm

from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import ParameterError, SigningError, StorageError
from dmsign_fast.oci.layout import Layout
from dmsign_fast.signing import pkcs11_token
from dmsign_fast.signing.pkcs11_uri import describe, parse_token_uri
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.signing.scheme import SCHEMES, Family, pkcs7_scheme

ROOT = make_root()
LEAF = make_leaf(make_intermediate(ROOT))
WITH_PIN = KeyOptions(secret=lambda what: PIN)


@pytest.fixture
def hsm(tmp_path, monkeypatch):
    for name in ("PKCS11_MODULE_PATH", "FAULTS", "FAULTS_KEYED", "FAULTS_MODULE", "FAULTS_LOG"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with softhsm(tmp_path / "softhsm") as hsm:
        yield hsm


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    with softhsm(tmp_path_factory.mktemp("made")) as hsm:
        hsm.token("signing").put(LEAF, b"\1", "key")
    return hsm.directory / "tokens"


@pytest.fixture
def token(hsm, made):
    """A token with one key and its certificate."""
    shutil.copytree(made, hsm.directory / "tokens", dirs_exist_ok=True)
    return Token("signing", hsm.module)


@pytest.fixture(scope="session")
def faults(tmp_path_factory):
    return build_faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faulty(hsm, token, faults):
    return hsm.faulty(token, faults)


def works(signer, leaf=LEAF):
    assert signer.certificate_chain[0] == leaf.certificate
    signature = sign_root_hash(ROOT_HASH, signer)
    verify_root_hash(signature, ROOT_HASH, TrustAnchors(signer.certificate_chain))
    return True


# The URI


def test_all_that_a_uri_can_say(hsm, token):
    (found,) = [one for one in pkcs11.lib(str(token.module)).get_tokens() if one.label == "signing"]
    parts = {
        "manufacturer": b"SoftHSM project",
        "model": b"SoftHSM v2",
        "serial": found.serial,
        "library-manufacturer": b"SoftHSM",
        "library-description": b"Implementation of PKCS11",
        "library-version": b"%d.%d" % pkcs11.lib(str(token.module)).library_version,
        "slot-manufacturer": b"SoftHSM project",
        "slot-description": found.slot.slot_description.encode(),
        "slot-id": b"%d" % found.slot.slot_id,
        "object": b"key",
        "id": b"\1",
        "type": b"private",
    }
    everything = describe(parts).removeprefix("pkcs11:")
    assert works(open_signer(token.uri(everything), WITH_PIN))
    assert works(open_signer(token.uri(), WITH_PIN))
    assert works(open_signer(token.uri().replace("token=signing", ""), WITH_PIN))
    for name in parts:
        if name in ("object", "id"):
            with pytest.raises(SigningError, match=r"it has pkcs11:object=key;id=%01$"):
                open_signer(token.uri(f"{name}=other"), WITH_PIN)
        elif name != "type":
            value = {"slot-id": "1", "library-version": "77"}.get(name, "other")
            with pytest.raises(SigningError, match=r"has pkcs11:token=signing;serial=\w+;slot-id="):
                open_signer(token.uri(f"{name}={value}"), WITH_PIN)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("pkcs11:tokn=a", "'tokn' is no path attribute .* there are token, manufacturer"),
        ("pkcs11:token", "'token' is no path attribute of a PKCS#11 URI with a value"),
        ("pkcs11:token=a;", "'nothing' is no path attribute"),
        ("pkcs11:x-vendor=a", "'x-vendor' is no path"),
        ("pkcs11:module-path=/a", "'module-path' is no path"),
        ("pkcs11:?token=a", "'token' is no query attribute .* there are module-path, module-name"),
        ("pkcs11:?module-path=/a&", "'nothing' is no query"),
        ("pkcs11:token=a;token=a", "one token, not two"),
        ("pkcs11:?pin-source=a&pin-source=a", "one pin-source, not two"),
        ("pkcs11:token=%4", "the token .* has a %"),
        ("pkcs11:token=%zz", "the token .* has a %"),
        ("pkcs11:type=cert", "is private"),
        ("pkcs11:slot-id=0x1", "decimal"),
        ("pkcs11:library-version=a", "MAJOR.MINOR"),
        ("pkcs11:?module-path=a.so", "absolute"),
        ("pkcs11:?module-name=../a", "a name, not a path"),
        ("pkcs11:?module-path=%ff", "not UTF-8"),
        ("pkcs11:?pin-source=%7Ccat%20a", "is a file"),
        ("pkcs11:?pin-source=http://a/b", "is a file"),
        ("pkcs11:?pin-source=file://host/b", "is a file"),
        ("pkcs11:?pin-source=", "is a file"),
    ],
)
def test_uris_that_are_refused(uri, message):
    with pytest.raises(ParameterError, match=message):
        open_signer(uri, KeyOptions())


@pytest.mark.parametrize("uri", ["pkcs11:?pin-value=4711", "pkcs11:a=b?pin-value=4711&x=y"])
def test_a_pin_in_the_uri_is_refused_and_not_shown(uri):
    with pytest.raises(ParameterError, match="leave it out, and give the PIN by") as caught:
        open_signer(uri)
    assert "4711" not in str(caught.value)
    done = cli("verity", "sign", "/dev/null", "--key", uri, "--debug")
    assert done.exit_code == 2
    assert "4711" not in done.out + done.err


@given(st.dictionaries(st.sampled_from(["token", "object", "id", "serial"]), st.binary(min_size=1)))
def test_what_is_described_is_read_back(found):
    uri = parse_token_uri(describe(found))
    assert uri.path == found
    assert uri.allows(found)
    assert not uri.allows({name: value + b"1" for name, value in found.items()}) or not found


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/etc/pin", "/etc/pin"),
        ("pin%20file", "pin file"),
        ("file:/etc/pin", "/etc/pin"),
        ("file:///etc/pin", "/etc/pin"),
        ("file://localhost/etc/pin", "/etc/pin"),
        ("file:pin", "pin"),
    ],
)
def test_pin_sources(text, path):
    assert str(parse_token_uri(f"pkcs11:?pin-source={text}").pin_file) == path


# The module


def test_ways_to_name_the_module(token, tmp_path, monkeypatch):
    bare = "pkcs11:token=signing"
    directory, name = token.module.parent, token.module.name.removesuffix(".so")
    for query in (
        f"module-name={name.removeprefix('lib')}",
        f"module-name={name}&module-path={directory}",
        f"module-name=anything&module-path={token.module}",
    ):
        assert works(open_signer(f"{bare}?{query}", WITH_PIN))
    (tmp_path / "link.so").symlink_to(token.module)
    signers = []
    for name in (token.module, tmp_path / "link.so"):
        monkeypatch.setenv("PKCS11_MODULE_PATH", str(name))
        signers.append(open_signer(bare, WITH_PIN))
    assert all(works(signer) for signer in signers)


def test_p11_kit_is_asked_when_no_module_is_named(token):
    """Debian registers SoftHSM with p11-kit; a process of its own, as SoftHSM is loaded here."""
    code = (
        "import os; from dmsign_fast.signing.providers import *; s = open_signer("
        "'pkcs11:token=signing', KeyOptions(secret=lambda what: os.environb[b'PIN'])); "
        "print(s.key_spec)"
    )
    environment = {**os.environ, "PIN": os.fsdecode(PIN)}
    done = run(sys.executable, "-c", code, env=environment)
    assert done.out == "EC-256\n", done.err


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("module-path=/nothing.so", "module /nothing.so cannot be loaded: .*No such file"),
        ("module-path=/etc/passwd", "module /etc/passwd cannot be loaded: .*"),
        ("module-name=nothing", "no PKCS#11 module nothing.so or libnothing.so in usual"),
        ("module-name=nothing&module-path=/etc", "nothing.so or libnothing.so in /etc; give"),
    ],
)
def test_modules_that_cannot_be_loaded(query, message):
    with pytest.raises(SigningError, match=message):
        open_signer(f"pkcs11:?{query}")


def test_a_library_that_is_no_module(tmp_path):
    source = write(tmp_path / "empty.c", b"int nothing;\n")
    run(program("gcc"), "-shared", "-fPIC", "-o", tmp_path / "empty.so", source)
    with pytest.raises(SigningError, match=r"empty.so cannot be loaded: .*C_GetFunctionList"):
        open_signer(f"pkcs11:?module-path={tmp_path}/empty.so")


def test_no_module_at_all(monkeypatch):
    monkeypatch.setattr(pkcs11_token, "_PROXIES", ("no-proxy.so",))
    monkeypatch.delenv("PKCS11_MODULE_PATH", raising=False)
    with pytest.raises(SigningError, match=r"module-path=FILE at the end .* \$PKCS11_MODULE_PATH"):
        open_signer("pkcs11:token=a")


def test_the_extra_is_named_when_it_is_missing():
    code = (
        "import sys; sys.modules['pkcs11'] = None; "
        "from dmsign_fast.signing.providers import open_signer; open_signer('pkcs11:')"
    )
    assert "pip install 'dmsign-fast[pkcs11]'" in run(sys.executable, "-c", code).err


# Tokens, keys and certificates


def test_no_token_and_too_many(hsm):
    nothing = f"pkcs11:?module-path={hsm.module}"
    run(program("softhsm2-util"), "--show-slots")
    with pytest.raises(SigningError, match="has none: is it connected and initialised"):
        open_signer(nothing)
    for _ in range(2):
        twin = hsm.token("twin")
    with pytest.raises(SigningError, match=r"2 tokens .* name one of (.*serial=.*){2}") as caught:
        open_signer(twin.uri())
    parts = str(caught.value).rpartition("pkcs11:")[2]
    with pytest.raises(SigningError, match=r"no private key of the token twin .* has none"):
        open_signer(f"pkcs11:{parts}?module-path={hsm.module}", WITH_PIN)


def test_too_many_keys(token):
    token.put(make_leaf(name="other"), b"\2", "key")
    with pytest.raises(SigningError, match=r"2 private keys .*:object=key;id=%01, .*;id=%02$"):
        open_signer(token.uri("object=key"), WITH_PIN)
    assert works(open_signer(token.uri("object=key;id=%01"), WITH_PIN))


def test_a_key_that_is_made_on_the_token(hsm):
    token = hsm.token("born")
    with token.opened() as session:
        parameters = session.create_domain_parameters(
            KeyType.EC,
            {Attribute.EC_PARAMS: encode_named_curve_parameters("secp384r1")},
            local=True,
        )
        public, _ = parameters.generate_keypair(store=True, id=b"\7", label="born")
        key = load_der_public_key(encode_ec_public_key(public))
    issuer = make_root()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=Born"))
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(7)
        .not_valid_before(LEAF.certificate.not_valid_before_utc)
        .not_valid_after(LEAF.certificate.not_valid_after_utc)
        .sign(issuer.key, issuer.certificate.signature_hash_algorithm)
    )
    born = Entity(None, certificate, issuer.chain)
    token.put(born, b"\7", "born", "certificate")
    signer = open_signer(token.uri("object=born"), WITH_PIN)
    assert signer.key_spec == "EC-384"
    assert works(signer, born)


def test_the_chain_is_what_the_token_has_of_it(token):
    stranger = make_root("Stranger")
    token.put(stranger, b"\2", "stranger", "certificate")
    assert open_signer(token.uri(), WITH_PIN).certificate_chain == LEAF.chain[:1]
    for above in LEAF.chain[:0:-1]:
        token.put(Entity(None, above), b"", "above", "certificate")
    assert open_signer(token.uri(), WITH_PIN).certificate_chain == LEAF.chain


def test_certificates_of_a_file(hsm, tmp_path):
    token = hsm.token("bare")
    token.put(LEAF, b"\1", "key", "private", "public")
    with pytest.raises(SigningError, match=r"token bare: it has no certificate .*id=%01; give -"):
        open_signer(token.uri(), WITH_PIN)
    files = LEAF.write(tmp_path)
    signer = open_signer(token.uri(), KeyOptions(secret=lambda what: PIN, certificates=files.chain))
    assert signer.certificate_chain == LEAF.chain
    assert works(signer)


@pytest.mark.parametrize("spec", ["EC-521", "RSA-2048"])
def test_no_public_key_object(hsm, spec, tmp_path):
    """RSA private keys show their modulus, EC ones no point: the certificate has to say."""
    token = hsm.token("private")
    leaf, other = make_leaf(key=spec), make_leaf(name="other", key=spec)
    token.put(leaf, b"\1", "key", "private", "certificate")
    assert works(open_signer(token.uri(), WITH_PIN), leaf)
    options = KeyOptions(secret=lambda what: PIN, certificates=leaf.write(tmp_path).chain)
    assert works(open_signer(token.uri(), options), leaf)
    other.write(tmp_path)
    with pytest.raises(SigningError, match=r"wrong key for|not a .* signature by the key of its"):
        works(open_signer(token.uri(), options), other)


def test_the_wrong_certificate(hsm, tmp_path):
    token = hsm.token("wrong")
    token.put(LEAF, b"\1", "key", "private", "public")
    other = make_leaf(name="other")
    token.put(other, b"\1", "key", "certificate")
    with pytest.raises(SigningError, match="CN=other has the key's id and is of another key"):
        open_signer(token.uri(), WITH_PIN)
    file = write(tmp_path / "other.pem", pem(other.certificate))
    options = KeyOptions(secret=lambda what: PIN, certificates=file)
    with pytest.raises(SigningError, match=r"other.pem: wrong key for the certificate"):
        open_signer(token.uri(), options)


def test_certificates_that_must_not_sign(hsm):
    token = hsm.token("expired")
    expired = make_expired_leaf(ROOT, name=LEAF.certificate.subject.rfc4514_string()[3:])
    token.put(expired, b"\1", "key")
    with pytest.raises(SigningError, match=r"token expired: the certificate .* expired"):
        open_signer(token.uri(), WITH_PIN)
    token.put(make_leaf(ROOT), b"\1", "renewed", "certificate")
    with pytest.raises(SigningError, match=r"2 certificates of this key, .*serial .*; give --cert"):
        open_signer(token.uri(), WITH_PIN)


@pytest.mark.parametrize("spec", ["EC-256", "EC-384", "EC-521"])
def test_points_without_their_octet_string(hsm, spec, faults):
    token = hsm.token("points")
    leaf = make_leaf(key=spec)
    token.put(leaf, b"\1", "key")
    faulty = hsm.faulty(token, faults)
    for os.environ["FAULTS"] in ("raw=1", ""):
        assert works(open_signer(faulty.uri(), WITH_PIN), leaf)


@pytest.mark.parametrize("kind", ["RSA-1024", "EC-256K1"])
def test_kinds_of_key_without_support(hsm, kind):
    token = hsm.token("kinds")
    token.put(make_entity("odd", key=kind), b"\1", "key")
    with pytest.raises(SigningError, match=r"no support for .*; use one of RSA-2048"):
        open_signer(token.uri(), WITH_PIN)


def test_edwards_keys_are_without_support(hsm):
    token = hsm.token("edwards")
    with token.opened() as session:
        parameters = session.create_domain_parameters(
            KeyType.EC_EDWARDS,
            {Attribute.EC_PARAMS: PrintableString("edwards25519").dump()},
            local=True,
        )
        parameters.generate_keypair(
            mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, id=b"\1"
        )
    with pytest.raises(SigningError, match=r"of the kind EC_EDWARDS; use one of RSA-2048"):
        open_signer(token.uri(), WITH_PIN)


def test_a_key_that_is_not_for_signing(hsm):
    token = hsm.token("decrypts")
    token.put(make_leaf(key="RSA-2048"), b"\1", "key", sign=False)
    with pytest.raises(SigningError, match="id=%01 is not for signing: its CKA_SIGN is false"):
        open_signer(token.uri(), WITH_PIN)


# Mechanisms


@pytest.mark.parametrize(
    ("spec", "family", "only"),
    [
        ("RSA-2048", Family.RSA_PKCS1, "CKM_SHA{}_RSA_PKCS"),
        ("RSA-3072", Family.RSA_PSS, "CKM_SHA{}_RSA_PKCS_PSS"),
    ],
)
def test_a_token_that_must_hash_itself(spec, family, only, tmp_path):
    leaf = make_leaf(key=spec)
    mechanisms = ",".join(only.format(bits) for bits in (256, 384, 512))
    with softhsm(tmp_path / "softhsm", **{"slots.mechanisms": mechanisms}) as hsm:
        token = hsm.token("hashes")
        token.put(leaf, b"\1", "key")
        signer = open_signer(token.uri(), WITH_PIN)
        for scheme in SCHEMES:
            if spec in scheme.key_specs and scheme.family is family:
                signature = signer.sign(b"message" * 1000, scheme)
                leaf.key.public_key().verify(
                    signature, b"message" * 1000, scheme.rsa_padding, scheme.hash_algorithm
                )


def test_a_token_that_cannot(tmp_path):
    with softhsm(tmp_path / "softhsm", **{"slots.mechanisms": "CKM_RSA_PKCS"}) as hsm:
        token = hsm.token("cannot")
        token.put(LEAF, b"\1", "key")
        with pytest.raises(SigningError, match="neither CKM_ECDSA nor CKM_ECDSA_SHA256; use"):
            works(open_signer(token.uri(), WITH_PIN))


# PINs, and what the token answers


def shown(error):
    return "".join(traceback.format_exception(error))


def test_the_pin_is_asked_for_once_and_only_when_needed(token):
    asked = []

    def secret(what):
        asked.append(what)
        return PIN

    options = KeyOptions(secret=secret)
    signers = [open_signer(token.uri(), options) for _ in range(2)]
    assert asked == ["PIN of the token signing"]
    signers.pop()
    assert works(signers[0]), "the other's end logged this one out"
    signers.clear()
    open_signer(token.uri(), options)
    assert len(asked) == 2
    with pytest.raises(SigningError, match="the PIN of the token signing is needed"):
        open_signer(token.uri())


def test_the_pin_of_a_file(token, tmp_path):
    for text in (PIN, PIN + b"\n", PIN + b"\nsecond line"):
        file = write(tmp_path / "pin file", text)
        quoted = str(file).replace(" ", "%20")
        assert works(open_signer(token.uri(query=f"pin-source=file:{quoted}")))
    with pytest.raises(StorageError, match="cannot read /nothing"):
        open_signer(token.uri(query="pin-source=/nothing"))


@pytest.mark.parametrize("wrong", [b"1234", b"", b"\xff\xfe", b"x" * 1000])
def test_a_wrong_pin_is_tried_once(faulty, hsm, wrong):
    with pytest.raises(SigningError, match=r"PIN .*token signing") as caught:
        open_signer(faulty.uri(), KeyOptions(secret=lambda what: wrong))
    if wrong in (b"", b"\xff\xfe"):
        assert "was not tried" in str(caught.value)
        assert not (hsm.directory / "calls").exists()
    else:
        assert "will not be tried again" in str(caught.value)
        assert wrong.decode() not in shown(caught.value)
        assert sum(call.startswith("C_Login") for call in hsm.calls()) == 1
    assert works(open_signer(faulty.uri(), WITH_PIN)), "the right PIN does not help afterwards"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("C_Login=a4", r"the PIN of the token signing is locked; .* \(PinLocked\)"),
        ("C_Login=a3", "has expired"),
        ("C_Login=102", "has no user PIN yet"),
        ("C_Login=e0", "was removed"),
        ("C_Login=50", "told to cancel"),
        ("C_Login=30", r"the token signing failed \(DeviceError\)"),
        ("C_Login=80000001", r"failed \(PKCS11Error: Unmapped error code 0x80000001\)"),
        ("C_OpenSession=e0", "was removed"),
        ("C_SignInit=101", "nobody is logged in"),
        ("C_SignInit=70", r"does not support this kind of signature .*\(MechanismInvalid\)"),
        ("C_SignInit=62", "does not support"),
        ("C_SignInit=68", "failed"),
        ("C_Sign=32", "the token signing was removed, or the connection"),
        ("C_Sign=b3", "was removed"),
        ("C_Sign=6", "failed"),
    ],
)
def test_what_the_token_answers(faulty, answer, message):
    os.environ["FAULTS"] = answer
    with pytest.raises(SigningError, match=message) as caught:
        works(open_signer(faulty.uri(), WITH_PIN))
    assert PIN.decode() not in shown(caught.value)
    del caught, os.environ["FAULTS"]
    assert works(open_signer(faulty.uri(), WITH_PIN))


def test_a_locked_token_is_not_asked(faulty, hsm):
    os.environ["FAULTS"] = "flags=40000"  # CKF_USER_PIN_LOCKED
    with pytest.raises(SigningError, match="is locked; unlock it"):
        open_signer(faulty.uri(), KeyOptions(secret=pytest.fail))
    assert not (hsm.directory / "calls").exists()


def test_a_pin_that_is_typed_at_the_token(faulty):
    os.environ["FAULTS"] = "flags=100"  # CKF_PROTECTED_AUTHENTICATION_PATH
    os.environ["FAULTS_KEYED"] = os.fsdecode(PIN)
    assert works(open_signer(faulty.uri()))


def test_sessions_end(faulty, hsm):
    signer = open_signer(faulty.uri(), WITH_PIN)
    assert works(signer)
    del signer
    assert [one.split()[0] for one in hsm.calls()][-2:] == ["C_Logout", "C_CloseSession"]
    code = (
        "import os; from dmsign_fast.signing.providers import *; s = open_signer("
        f"{faulty.uri()!r}, KeyOptions(secret=lambda what: os.environb[b'PIN']))"
    )
    done = run(sys.executable, "-c", code, env={**os.environ, "PIN": os.fsdecode(PIN)})
    assert (done.exit_code, done.err) == (0, "")
    assert [one.split()[0] for one in hsm.calls()][-2:] == ["C_Logout", "C_CloseSession"]


def test_a_key_that_asks_each_time(hsm, faults):
    token = hsm.token("always")
    token.put(LEAF, b"\1", "key", always_authenticate=True)
    faulty = hsm.faulty(token, faults)
    answers = [PIN, PIN, PIN, b"wrong"]
    signer = open_signer(faulty.uri(), KeyOptions(secret=lambda what: answers.pop(0)))
    assert works(signer)
    assert works(signer)
    calls = [one for one in hsm.calls() if one.startswith(("C_Login", "C_Sign"))]
    assert calls == ["C_Login 1", *["C_SignInit 1041", "C_Login 2", "C_Sign 20", "C_Sign 20"] * 2]
    with pytest.raises(SigningError, match="wrong PIN for the token always"):
        works(signer)
    del signer
    answers += [PIN, PIN]
    assert works(open_signer(faulty.uri(), KeyOptions(secret=lambda what: answers.pop(0))))
    assert not answers


def test_threads_and_tokens_take_turns_in_a_module(hsm, token, faults):
    second = hsm.token("second")
    second.put(LEAF, b"\1", "key")
    os.environ["FAULTS"] = "slow=3e8"
    signers = [open_signer(hsm.faulty(one, faults).uri(), WITH_PIN) for one in (token, second)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(works, signers * 16))


def test_a_token_that_was_removed_and_is_back(faulty):
    """SoftHSM never was away, and says to the second login that there is one."""
    first = open_signer(faulty.uri(), WITH_PIN)
    os.environ["FAULTS"] = "C_Sign=32"
    with pytest.raises(SigningError, match="was removed"):
        works(first)
    os.environ["FAULTS"] = ""
    asked = []
    options = KeyOptions(secret=lambda what: asked.append(what) or PIN)
    second = open_signer(faulty.uri(), options)
    assert works(second)
    assert asked
    del second, first


def test_a_token_that_was_finalised_by_others(token):
    signer = open_signer(token.uri(), WITH_PIN)
    pkcs11.lib(str(token.module)).finalize()
    with pytest.raises(SigningError, match="token signing failed"):
        signer.sign(b"message", pkcs7_scheme(signer.key_spec))
    del signer
    assert works(open_signer(token.uri(), WITH_PIN))


def test_nothing_shows_the_pin(token):
    signer = open_signer(token.uri(), WITH_PIN)
    assert PIN.decode() not in repr(signer)
    assert "_pin" not in repr(signer)


# The command line


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_the_command_line(token, tmp_path, debug):
    data = write(tmp_path / "data", noise(8192))
    pin = write(tmp_path / "pin", PIN + b"\n")
    wrong = write(tmp_path / "wrong", b"4711 wrong\n")
    command = ("verity", "sign", data, "--key", token.uri("object=key"), *debug)
    for options, environment in (
        (("--passphrase-file", wrong), {}),
        (("--passphrase-env", "THE_PIN"), {"THE_PIN": "4711 wrong"}),
    ):
        done = dmsign(*command, *options, environment=environment)
        assert done.exit_code == 5
        assert "wrong PIN for the token signing" in done.err
        assert "4711" not in done.out + done.err
        assert bool(debug) == ("Traceback" in done.err)
        assert not list(tmp_path.glob("data.*"))
    done = dmsign(*command, "--passphrase-file", pin)
    assert done.exit_code == 0, done.err
    assert PIN.decode() not in done.out + done.err
    root_hash = bytes.fromhex((tmp_path / "data.roothash").read_text())
    signature = (tmp_path / "data.roothash.p7s").read_bytes()
    verify_root_hash(signature, root_hash, TrustAnchors(LEAF.chain))


@pytest.mark.parametrize("form", ["jws", "cose"])
def test_an_image_before_notation(hsm, form, tmp_path):
    token = hsm.token("images")
    leaf = make_leaf(make_intermediate(ROOT), key="RSA-2048")
    token.put(leaf, b"\1", "key", "private", "public")
    files = leaf.write(tmp_path / "pki")
    store = Layout.create(tmp_path / "oci")
    image = push_image(store, "v1", tars(2))
    command = ("sign", "--oci-layout", f"{tmp_path}/oci:v1", "--signature-format", form)
    key = ("--key", token.uri("object=key"), "--cert", files.chain, "--passphrase-file")
    done = cli(*command, *key, write(tmp_path / "wrong", b"wrong"))
    assert done.exit_code == 5
    assert not store.referrers(image.descriptor)
    done = cli(*command, *key, write(tmp_path / "pin", PIN))
    assert done.exit_code == 0, done.err
    assert len(store.referrers(image.descriptor)) == 2
    (tmp_path / "home").mkdir()
    notation = Notation(tmp_path / "home")
    notation.trust(pem(leaf.root))
    reference = f"{tmp_path}/oci@{image.descriptor.digest}"
    done = notation("verify", "--oci-layout", reference, "--scope", SCOPE)
    assert done.exit_code == 0, done.err
