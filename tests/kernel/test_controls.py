"""That these tests can fail."""

from dataclasses import replace

import pytest

from kernel.cases import CASES
from kernel.guest import Answer, GuestError, programs, read_console
from kernel.test_verdicts import check

CONSOLE = """\
case\ta\tread\tabcd\tV
file\ta\t./name|41ed
[    7.000000] device-mapper: noise
case\tb\trefused\tRequired key not available
case\tc\tbad\t3,4,7\tabcd\tC
done\t7.2.13\t3
"""


def test_the_console_is_read():
    assert read_console(CONSOLE, "7.2.13") == {
        "a": Answer("reads", "abcd", "V", ["./name|41ed"]),
        "b": Answer("ENOKEY"),
        "c": Answer("EIO 3-4,7", "abcd", "C"),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("done\t7.2.13\t3\n", ""),
        ("done\t7.2.13\t3\n", "Kernel panic - not syncing: Attempted to kill init!\n"),
        ("7.2.13", "7.2.14"),
        ("done\t7.2.13\t3", "done\t7.2.13\t4"),
        ("case\tb", "cas"),
        ("done", "done\t7.2.13\t3\ndone"),
    ],
)
def test_a_machine_that_does_not_come_to_its_end_is_an_error(old, new):
    with pytest.raises(GuestError):
        read_console(CONSOLE.replace(old, new), "7.2.13")


def test_missing_programs_are_named_with_their_packages(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(GuestError, match=r"apt-get install busybox-static .*qemu-system-x86"):
        programs()


def _named(name):
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("RSA-2048-sha256", "ENOKEY"),  # read, and said to be refused
        ("other-key", "reads"),
        ("other-key", "EKEYREJECTED"),  # refused for another reason
        ("data-altered-4096", "reads"),
        ("data-altered-4096", "EIO 6"),
    ],
)
def test_a_wrong_expectation_fails(name, wrong, judged):
    case = _named(name)
    check(case, judged)
    with pytest.raises(AssertionError):
        check(replace(case, expected=wrong), judged)


def test_other_contents_fail(judged):
    case = _named("RSA-2048-sha256")
    answers = judged.answers | {case.name: judged.answers["EC-256-sha256"]}
    with pytest.raises(AssertionError):
        check(case, replace(judged, answers=answers))


def test_a_laxer_dmsign_fast_fails(judged):
    case = _named("RSA-2048-sha256")
    answers = judged.answers | {case.name: Answer("ENOKEY")}
    with pytest.raises(AssertionError, match="laxer"):
        check(replace(case, expected=""), replace(judged, answers=answers))
