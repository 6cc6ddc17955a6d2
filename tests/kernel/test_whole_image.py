"""An image of five layers, mounted in the guest by the lines of ``mount --dry-run``."""

from kernel.whole_image import SAYS, expected_stack


def test_every_line_succeeds_and_every_file_is_there(judged):
    assert judged.stack.failed == ""
    assert sorted(judged.stack.files) == expected_stack()


def test_a_program_of_the_image_runs(judged):
    assert judged.stack.says == SAYS


def test_nothing_of_it_can_be_written(judged):
    assert "Read-only file system" in judged.stack.writes
