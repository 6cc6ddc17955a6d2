"""Keys of plugins: what is asked, and that nothing wrong is taken for a signature."""

import base64

import pytest
from a_plugin import ENVELOPE, RAW, make_plugin, requests
from container_images import push_image, tars
from helpers import write
from pki import DAY, KEY_SPECS, NOW, make_expired_leaf, make_intermediate, make_leaf, make_root

from dmsign_fast.envelope.notary import check_envelope, parse_envelope, sign_manifest
from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import ParameterError, ProgramError, SigningError
from dmsign_fast.oci.layout import Layout
from dmsign_fast.pipeline.files import SignedPaths, sign_file
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.signing.scheme import notary_scheme, pkcs7_scheme
from dmsign_fast.signing.signer import EnvelopeSigner

ROOT_HASH = bytes(range(32))
TARGET = {"mediaType": "application/x", "digest": f"sha256:{'a' * 64}", "size": 7}
JWS, COSE = "application/jose+json", "application/cose"
CONFIG = {"vault": "north"}


@pytest.fixture
def libexec(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTATION_LIBEXEC", str(tmp_path / "libexec"))
    return tmp_path / "libexec"


@pytest.fixture
def install(libexec):
    """Installs a plugin with one thing wrong and returns what opens its key."""

    def make(wrong="", key="EC-256", leaf=None, capabilities=(RAW,), **options):
        entity = leaf or make_leaf(make_intermediate(make_root()), key=key)
        home = make_plugin(libexec, entity, capabilities=capabilities, wrong=wrong)

        def open_key(**more):
            found = KeyOptions(**{"config": CONFIG} | options | more)
            return open_signer("plugin:test?id=key%201/a+b?c=d", found)

        return open_key, entity, home

    return make


@pytest.mark.parametrize("key", KEY_SPECS)
def test_both_schemes_of_each_kind_of_key(key, install):
    open_key, leaf, home = install(key=key)
    signer = open_key()
    assert (signer.key_spec, signer.certificate_chain) == (key, ())
    made = sign_root_hash(ROOT_HASH, signer)
    verify_root_hash(made, ROOT_HASH, TrustAnchors((leaf.root,)))
    assert signer.certificate_chain == leaf.chain
    for media_type in (JWS, COSE):
        envelope = parse_envelope(sign_manifest(TARGET, signer, media_type=media_type), media_type)
        check_envelope(envelope, target=TARGET)
    kernel, *others = requests(home, "generate-signature")
    scheme, notary = pkcs7_scheme(signer.key_spec), notary_scheme(signer.key_spec)
    known = {"contractVersion": "1.0", "keyId": "key 1/a+b?c=d"}
    with_scheme = {"signing_scheme": "rsassa-pkcs1-v1_5"} if key.startswith("RSA") else {}
    assert base64.b64decode(kernel.pop("payload")) == ROOT_HASH.hex().encode()
    assert kernel == known | {
        "pluginConfig": CONFIG | with_scheme,
        "keySpec": key,
        "hashAlgorithm": f"SHA-{scheme.digest[3:]}",
    }
    for one in others:
        assert one["pluginConfig"] == CONFIG
        assert one["hashAlgorithm"] == f"SHA-{notary.digest[3:]}"
    assert requests(home, "describe-key") == [known | {"pluginConfig": CONFIG}]
    assert requests(home, "get-plugin-metadata") == [{"pluginConfig": CONFIG}]


def signs(signer):
    sign_root_hash(ROOT_HASH, signer)


def signs_manifest(signer):
    sign_manifest(TARGET, signer, media_type=JWS)


@pytest.mark.parametrize(
    ("wrong", "key", "sign", "error", "words"),
    [
        ("describes another key", "EC-256", None, ProgramError, "keyId is 'other' where 'key 1/a"),
        ("has a key of no kind", "EC-256", None, ProgramError, "keySpec is 'RSA-1024' and not one"),
        ("has a key of another kind", "RSA-2048", signs, SigningError, "is RSA-3072, and shows"),
        ("has a key of another kind", "EC-256", signs_manifest, SigningError, "of a key EC-256"),
        ("signs with another key id", "EC-256", signs, ProgramError, "keyId is 'other'"),
        ("has no certificates", "EC-256", signs, ProgramError, "certificateChain is empty"),
        ("has certificates of garbage", "EC-256", signs, ProgramError, "cannot be parsed"),
        ("has certificates in no base64", "EC-256", signs, ProgramError, "a certificate is not b"),
        ("has a signature in no base64", "EC-256", signs, ProgramError, "signature is not base64"),
        ("has an empty signature", "EC-256", signs, ProgramError, "signature is missing"),
        ("has a wrong signature", "RSA-2048", signs, SigningError, "something else, or another k"),
        ("has a short signature", "EC-256", signs, SigningError, "answered with 63 bytes"),
        ("has another algorithm", "RSA-2048", signs_manifest, ProgramError, "'RSASSA-PSS-SHA-1' a"),
        ("has another algorithm", "EC-256", signs, ProgramError, "and not ECDSA-SHA-256"),
        ("signs as PSS", "RSA-2048", signs, SigningError, "rsassa-pss-sha256 signature; it does n"),
        ("signs as PSS", "RSA-4096", signs, SigningError, "does not know signing_scheme=rsassa-pk"),
        ("signs as PKCS#1", "RSA-2048", signs_manifest, SigningError, "rsassa-pkcs1-v1_5-sha256"),
        ("chooses the hash", "RSA-4096", signs, SigningError, "give --digest sha512"),
        ("signs as DER", "EC-384", signs, SigningError, "the DER of r and s; the contract has"),
        ("signs with another key", "RSA-2048", signs, SigningError, "or another key than that of"),
        ("signs with another key", "EC-521", signs_manifest, SigningError, "by the key of CN=Test"),
        ("signs something else", "RSA-2048", signs, SigningError, "something else, or"),
        ("signs something else", "EC-256", signs_manifest, SigningError, "no such signature"),
        ("shows a foreign certificate", "EC-256", signs, SigningError, "CN=Other is not in the ch"),
        ("shows another key's certificate", "EC-256", signs, SigningError, "by the key of CN=Oth"),
    ],
)
def test_a_plugin_that_does_one_thing_wrong(wrong, key, sign, error, words, install):
    open_key, _, _ = install(wrong, key)
    with pytest.raises(error) as caught:
        sign(open_key()) if sign else open_key()
    assert words in str(caught.value)
    assert "the plugin test" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_signing_as_pss_leaves_possible(install):
    open_key, _, _ = install("signs as PSS", "RSA-2048")
    signs_manifest(open_key())
    with pytest.raises(SigningError, match=r"install a version .*EC key.*--no-dm-verity"):
        signs(open_key())


def test_a_hash_that_the_plugin_chooses_can_be_asked_for(install):
    open_key, leaf, _ = install("chooses the hash", "RSA-4096")
    made = sign_root_hash(ROOT_HASH, open_key(), digest="sha512")
    verify_root_hash(made, ROOT_HASH, TrustAnchors((leaf.root,)))


def test_certificates_that_are_given(install, tmp_path):
    open_key, leaf, home = install()
    files, other = leaf.write(tmp_path / "pki"), make_leaf(make_root(), "Other").write(tmp_path)
    assert open_key(certificates=files.chain).certificate_chain == leaf.chain
    signs_manifest(open_key(certificates=files.chain))
    asked = len(requests(home, "generate-signature"))
    with pytest.raises(SigningError, match=r"CN=Test Signer .* and not with CN=Other .* given for"):
        signs(open_key(certificates=other.chain))
    wrong_kind = make_leaf(key="RSA-2048").write(tmp_path / "rsa")
    with pytest.raises(
        SigningError, match="first certificate is of a key RSA-2048, and the plugin"
    ):
        open_key(certificates=wrong_kind.chain)
    files.chain.write_bytes(files.leaf.read_bytes() + other.leaf.read_bytes())
    with pytest.raises(SigningError, match=f"{files.chain}: the certificate CN=Other is not in"):
        open_key(certificates=files.chain)
    assert len(requests(home, "generate-signature")) == asked + 1


def test_a_chain_that_is_known_is_checked_before_the_key_is_asked(install, tmp_path):
    leaf = make_expired_leaf(make_root())
    open_key, _, home = install(leaf=leaf)
    chain = leaf.write(tmp_path).chain
    for sign in (signs, signs_manifest):
        with pytest.raises(SigningError, match="expired"):
            sign(open_key(certificates=chain))
        assert requests(home, "generate-signature") == []
    for sign in (signs, signs_manifest):
        with pytest.raises(SigningError, match="expired"):
            sign(open_key())


def test_the_key_may_not_change_between_signatures(install, libexec):
    open_key, _, _ = install()
    signer = open_key()
    signs(signer)
    make_plugin(libexec, make_leaf(make_root(), "Next"))
    with pytest.raises(SigningError, match=r"CN=Next .* and not with CN=Test Signer"):
        signs(signer)


def test_the_registry_password_is_no_plugins_business(install, monkeypatch):
    monkeypatch.setenv("NOTATION_PASSWORD", "registry secret")
    open_key, _, home = install()
    open_key()
    assert "registry secret" not in (home / "requests").read_text()


@pytest.mark.parametrize(
    "uri", ["plugin:", "plugin:test", "plugin:test?id=", "plugin:test?key=a", "plugin:?id=a"]
)
def test_what_is_not_the_uri_of_a_key_of_a_plugin(uri):
    with pytest.raises(ParameterError):
        open_signer(uri)


@pytest.mark.parametrize("name", ["..", "a/b", "/etc/x", "a b", ".", "ä"])
def test_names_that_leave_the_directory(name):
    with pytest.raises(ParameterError, match="is not the name of a plugin"):
        open_signer(f"plugin:{name}?id=a")


def test_the_signing_scheme_is_not_for_the_configuration(install):
    open_key, _, _ = install()
    with pytest.raises(ParameterError, match="leave signing_scheme out"):
        open_key(config={"signing_scheme": "rsassa-pkcs1-v1_5"})


def test_a_plugin_of_both_kinds_makes_raw_signatures(install):
    open_key, _, home = install(capabilities=(ENVELOPE, RAW))
    signs(open_key())
    assert not isinstance(open_key(), EnvelopeSigner)
    assert requests(home, "generate-envelope") == []


# plugins that make envelopes only

ANNOTATED = TARGET | {"annotations": {"a": "b"}}


def envelope(signer, media_type=JWS, target=ANNOTATED, **options):
    return parse_envelope(
        sign_manifest(target, signer, media_type=media_type, **options), media_type
    )


@pytest.mark.parametrize("media_type", [JWS, COSE])
@pytest.mark.parametrize("expires", [True, False])
def test_an_envelope_of_a_plugin(media_type, expires, install):
    open_key, leaf, home = install(capabilities=(ENVELOPE,), key="RSA-3072")
    signer = open_key()
    assert isinstance(signer, EnvelopeSigner)
    assert signer.certificate_chain == ()
    expiry = NOW + DAY if expires else None
    options = {"signing_time": NOW, "expiry": expiry, "user_metadata": {"build": "7"}}
    made = envelope(signer, media_type, **options)
    assert made.user_metadata == {"a": "b", "build": "7", "plugin": "was here"}
    assert (made.expiry is not None) == expires
    assert signer.certificate_chain == leaf.chain
    assert signer.annotations["by"] == "plugin"
    (asked,) = requests(home, "generate-envelope")
    asked.pop("payload")
    wanted = {
        "contractVersion": "1.0",
        "keyId": "key 1/a+b?c=d",
        "pluginConfig": CONFIG,
        "payloadType": "application/vnd.cncf.notary.payload.v1+json",
        "signatureEnvelopeType": media_type,
    }
    assert asked == wanted | ({"expiryDurationInSeconds": 86400} if expires else {})


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ("answers in another format", ProgramError, "'text/plain' and not application/jose+json"),
        ("has an envelope of garbage", SigningError, "would not be accepted"),
        ("has annotations of numbers", ProgramError, "annotations is not an object of strings"),
        ("signs another descriptor", SigningError, "is for another artifact: its digest"),
        ("changes an annotation", SigningError, "its payload has changed, in annotations"),
        ("adds a member", SigningError, "its payload has changed, in urls"),
        ("adds to the payload", SigningError, "its payload has changed, in more"),
        ("binds root hashes", SigningError, "has changed, in dmsign-fast.root-hashes"),
        ("never expires", SigningError, "expires after no time, and was to expire after 1 day"),
        ("expires soon", SigningError, "expires after 23:59:00, and was to"),
        ("is by another key", SigningError, "is not over this content, or not by the key of"),
        ("has a critical header", SigningError, "critical headers are unknown or absent: com.ex"),
    ],
)
def test_an_envelope_that_is_wrong(wrong, error, words, install):
    open_key, _, _ = install(wrong, capabilities=(ENVELOPE,))
    signer = open_key()
    with pytest.raises(error) as caught:
        envelope(signer, signing_time=NOW, expiry=NOW + DAY)
    assert words in str(caught.value)
    assert signer.certificate_chain == ()


def test_an_envelope_by_another_certificate_than_was_given(install, tmp_path):
    open_key, _, _ = install(capabilities=(ENVELOPE,))
    other = make_leaf(make_root(), "Other").write(tmp_path)
    with pytest.raises(SigningError, match=r"CN=Test Signer .* and not with CN=Other"):
        envelope(open_key(certificates=other.chain))


def test_an_envelope_has_the_timestamp_that_its_plugin_gives_it(install):
    open_key, _, home = install(capabilities=(ENVELOPE,))
    with pytest.raises(ParameterError, match="leave --timestamp-url out"):
        envelope(open_key(), timestamp=lambda _: b"token")
    assert requests(home, "generate-envelope") == []


def test_an_envelope_is_no_signature_of_a_root_hash(install, tmp_path):
    open_key, _, home = install(capabilities=(ENVELOPE,))
    store = Layout.create(tmp_path / "layout")
    push_image(store, "v1", tars(1))
    data = write(tmp_path / "data", bytes(8192))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    read = []
    for sign in (
        lambda: signs(open_key()),
        lambda: sign_file(data, SignedPaths.beside(data), open_key(), progress=read.append),
        lambda: sign_image(
            store,
            "v1",
            open_key(),
            SignOptions(recipe=Recipe.parse("containerd@1.9.4")),
            progress=read.append,
        ),
    ):
        with pytest.raises(SigningError, match=r"no raw signatures.*--no-dm-verity"):
            sign()
    assert read == []
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before | {home / "requests"}
