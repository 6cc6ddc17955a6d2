"""Policies of IPE: what Linux 7.2.13 said to each in the guest, and what none can mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.node.ipe.make import make_policy, room
from dmsign_fast.node.ipe.parse import parse_policy
from dmsign_fast.node.ipe.policy import Action, Operation, Source, named_root_hash

HASH, OTHER = f"sha256:{'ab' * 32}", f"sha256:{'cd' * 32}"
HEAD = "policy_name=only-signed policy_version=1.0.0\n"
ALLOW_ALL = "DEFAULT action=ALLOW\n"
SIGNED = "op=EXECUTE dmverity_signature=TRUE action=ALLOW\n"
GOOD = f"{HEAD}{ALLOW_ALL}DEFAULT op=EXECUTE action=DENY\n{SIGNED}"
PER_OPERATION = "".join(f"DEFAULT op={one} action=DENY\n" for one in Operation)


def parse(text: str):
    return parse_policy(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        f"# a comment\n\n  {GOOD.replace('=TRUE ', '=TRUE   ')}\t \n# end",
        HEAD + PER_OPERATION,
        f"{HEAD}{ALLOW_ALL}op=EXECUTE dmverity_roothash={HASH.upper().replace('SHA', 'sha')} "
        "action=DENY",
        f"{HEAD}{ALLOW_ALL}op=KMODULE action=DENY # all",
        f"{HEAD}{ALLOW_ALL}op=EXECUTE dmverity_roothash=sha512:{'0' * 128} action=ALLOW",
    ],
)
def test_what_linux_takes(text):
    policy = parse(text)
    assert (policy.name, policy.version) == ("only-signed", (1, 0, 0))
    again = parse(policy.text)
    assert (again.defaults, list(map(str, again.rules))) == (
        policy.defaults,
        list(map(str, policy.rules)),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "EBADMSG"),
        ("# nothing", "EBADMSG"),
        (f"\ufeff{GOOD}", "byte order mark .*EBADMSG"),
        (GOOD.replace("policy_name=only-signed ", ""), "line 1: .*EBADMSG"),
        (GOOD.replace("1.0.0", "1.0.0 more=1"), "line 1: .*EBADMSG"),
        ("policy_version=1.0.0 policy_name=a\n" + ALLOW_ALL, "EBADMSG"),
        (GOOD.replace("1.0.0", "1.0.x"), "version"),
        (GOOD.replace("1.0.0", "1.0.65536"), "65535"),
        (GOOD.replace("only-signed", "a/b"), "cannot be called"),
        (GOOD.replace("only-signed", "a..b"), "cannot be called"),
        (GOOD.replace("only-signed", "a" * 300), "cannot be called"),
        (HEAD, "no DEFAULT .*EBADMSG"),
        (HEAD + PER_OPERATION.replace("DEFAULT op=POLICY action=DENY\n", ""), "DEFAULT for POLICY"),
        (GOOD + ALLOW_ALL, "second DEFAULT .*EBADMSG"),
        (GOOD + "DEFAULT op=EXECUTE action=ALLOW", "second DEFAULT for EXECUTE"),
        (GOOD.replace("op=EXECUTE dm", "op=EXEC dm"), "'op=EXEC' .*EBADMSG"),
        (GOOD.replace("op=EXECUTE dm", "op=execute dm"), "EBADMSG"),
        (GOOD.replace("=TRUE", "=true"), "TRUE or FALSE"),
        (GOOD.replace("dmverity_signature", "signature"), "no property"),
        (GOOD + "op=EXECUTE action=ALLOW boot_verified=TRUE", "last word"),
        (GOOD + "boot_verified=TRUE op=EXECUTE action=ALLOW", "EBADMSG"),
        (GOOD + "op=EXECUTE", "is wanted"),
        (GOOD + "DEFAULT op=KMODULE boot_verified=TRUE action=ALLOW", "EBADMSG"),
        (GOOD + "op=EXECUTE dmverity_roothash=sha256:xy action=DENY", "EINVAL"),
        (GOOD + "op=EXECUTE dmverity_roothash=abcd action=DENY", "EINVAL"),
        # taken by Linux
        (GOOD + "\0op=", "NUL"),
        (GOOD + "op=EXECUTE dmverity_roothash=sha257:abcd action=DENY", "algorithm 'sha257'"),
        (GOOD + "op=EXECUTE dmverity_roothash=sha256:abcd action=DENY", "2 bytes"),
        (
            GOOD + "op=KMODULE boot_verified=TRUE boot_verified=TRUE action=DENY",
            "line 5: boot_verified stands there twice .Linux takes it",
        ),
        (GOOD + SIGNED, "line 5: it never applies: line 4"),
        (GOOD + f"op=EXECUTE dmverity_roothash={HASH} action=DENY", "line 5: it comes too late"),
        (
            GOOD + f"op=EXECUTE dmverity_roothash={HASH} dmverity_signature=TRUE action=ALLOW",
            "never applies",
        ),
        (
            GOOD + "op=KMODULE boot_verified=TRUE dmverity_signature=TRUE action=ALLOW",
            "no file can have",
        ),
        (f"{HEAD}{ALLOW_ALL}{'#' * 65535}", "EMSGSIZE"),
    ],
)
def test_what_is_refused(text, reason):
    with pytest.raises(FormatError, match=reason):
        parse(text)


@given(st.binary(max_size=200) | st.text(alphabet="op=EXCUTDNY \n#:a1", max_size=200))
def test_no_text_but_an_error_or_a_policy(text):
    data = text.encode() if isinstance(text, str) else text
    for begin in (b"", GOOD.encode()):
        try:
            policy = parse_policy(begin + data)
        except FormatError:
            continue
        assert parse_policy(policy.text.encode()).text == policy.text


def test_the_first_rule_that_matches_decides():
    policy = make_policy("p", (1, 0, 0), revoked=[HASH], initramfs=True)

    def executed(source):
        return policy.decide(Operation.EXECUTE, source).action

    assert executed(Source(root_hash=OTHER, signed=True)) is Action.ALLOW
    assert executed(Source(root_hash=HASH, signed=True)) is Action.DENY
    assert executed(Source(root_hash=OTHER)) is Action.DENY
    assert executed(Source(boot_verified=True)) is Action.ALLOW
    assert executed(Source()) is Action.DENY
    assert policy.decide(Operation.KMODULE, Source()).action is Action.ALLOW


def test_named_layers_run_only_signed_and_no_others():
    policy = make_policy("p", (1, 2, 3), root_hashes=[HASH])
    assert (
        f"op=EXECUTE dmverity_roothash={HASH} dmverity_signature=TRUE action=ALLOW" in policy.text
    )

    def executed(source):
        return policy.decide(Operation.EXECUTE, source).action

    assert executed(Source(root_hash=HASH, signed=True)) is Action.ALLOW
    assert executed(Source(root_hash=HASH)) is Action.DENY
    assert executed(Source(root_hash=OTHER, signed=True)) is Action.DENY
    assert executed(Source(boot_verified=True)) is Action.DENY


@pytest.mark.parametrize("named", [None, [HASH]])
def test_strict_is_about_every_operation(named):
    policy = make_policy(
        "p", (1, 0, 0), root_hashes=named, revoked=[OTHER], initramfs=True, strict=True
    )
    for operation in Operation:
        is_run = operation is Operation.EXECUTE
        for source, allowed in (
            (Source(), False),
            (Source(boot_verified=True), True),
            (Source(root_hash=HASH, signed=True), named is None or is_run),
            (Source(root_hash=HASH), False),
            (Source(root_hash=OTHER, signed=True), False),
        ):
            assert (policy.decide(operation, source).action is Action.ALLOW) is allowed


def test_no_layer_is_both_allowed_and_revoked():
    with pytest.raises(ParameterError, match="revoked, and is of a layer that is allowed"):
        make_policy("p", (1, 0, 0), root_hashes=[HASH], revoked=[HASH])


def test_the_room_that_is_left_is_the_kernel_s():
    few = make_policy("p", (1, 0, 0), root_hashes=[HASH])
    more = room(few).rules_left
    hashes = [f"sha256:{number:064x}" for number in range(more)]
    full = make_policy("p", (1, 0, 0), root_hashes=[HASH, *hashes])
    assert room(full).rules_left == 0
    assert len(full.text) == room(full).size == 65535 - 2048 - room(full).left
    with pytest.raises(ParameterError, match="larger than the kernel takes"):
        make_policy("p", (1, 0, 0), root_hashes=[HASH, OTHER, *hashes])


def test_root_hashes_by_their_length_or_name():
    assert named_root_hash("AB" * 32) == HASH
    assert named_root_hash("0" * 128) == f"sha512:{'0' * 128}"
    for wrong in ("ab", "md5:" + "0" * 32, "sha256:" + "0" * 63, "x" * 64, ""):
        with pytest.raises(ParameterError):
            named_root_hash(wrong)
