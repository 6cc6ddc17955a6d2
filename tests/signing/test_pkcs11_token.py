"""Modules, tokens, PINs and sessions: SoftHSM 2, and SoftHSM behind faults.c.

SoftHSM locks no token, is never removed, and has no keys to type on: faults.c answers for such.
"""

import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import pkcs11
import pytest
from helpers import program, run, write
from signing.softhsm import LEAF, PIN, WITH_PIN, works

from dmsign_fast.errors import SigningError, StorageError
from dmsign_fast.signing import pkcs11_token
from dmsign_fast.signing.providers import KeyOptions, open_signer
from dmsign_fast.signing.scheme import pkcs7_scheme


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


@pytest.mark.parametrize("answer", ["C_SignInit=68", "C_Sign=6", "C_Sign=b3"])
def test_after_a_signature_that_failed_whoever_opens_the_token_gets_another_session(faulty, answer):
    """Though the signer that failed, and its error, are kept."""
    signer = open_signer(faulty.uri(), WITH_PIN)
    os.environ["FAULTS"] = answer
    with pytest.raises(SigningError) as caught:
        works(signer)
    del os.environ["FAULTS"]
    other = open_signer(faulty.uri(), WITH_PIN)
    assert works(other)
    with pytest.raises(SigningError, match="start again"):
        works(signer)
    del caught, signer
    assert works(other)


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
