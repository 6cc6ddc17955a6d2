"""URIs of keys on tokens: what they say, and what is refused."""

import pkcs11
import pytest
from helpers import cli
from hypothesis import given
from hypothesis import strategies as st
from signing.softhsm import WITH_PIN, works

from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.signing.pkcs11_uri import describe, parse_token_uri
from dmsign_fast.signing.providers import KeyOptions, open_signer


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
