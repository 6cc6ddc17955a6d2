"""Policies of IPE: what Linux 7.2.13 said to each in the guest, and what none can mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipe_policies import GOOD, HASH, OTHER, REFUSED, STRICTER, TAKEN

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.node.ipe.make import make_policy, room
from dmsign_fast.node.ipe.parse import parse_policy
from dmsign_fast.node.ipe.policy import Action, Operation, Source, named_root_hash


def parse(text: str):
    return parse_policy(text.encode())


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_what_linux_takes(text):
    policy = parse(text)
    assert policy.name == "only-signed"
    again = parse(policy.text)
    assert (again.defaults, list(map(str, again.rules))) == (
        policy.defaults,
        list(map(str, policy.rules)),
    )


@pytest.mark.parametrize(("text", "errno"), REFUSED.values(), ids=REFUSED)
def test_what_linux_refuses(text, errno):
    with pytest.raises(FormatError, match=f"Linux: {errno}"):
        parse(text)


@pytest.mark.parametrize(("text", "reason"), STRICTER.values(), ids=STRICTER)
def test_what_linux_takes_and_none_can_mean(text, reason):
    with pytest.raises(FormatError, match=reason):
        parse(text)


def test_more_than_linux_reads():
    with pytest.raises(FormatError, match="EMSGSIZE"):
        parse(GOOD + "#" * 65535)


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
