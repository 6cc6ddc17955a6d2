"""Files appear whole or not at all, whatever fails and whenever."""

import errno
import os
import stat
from pathlib import Path

import pytest
from helpers import write

from dmsign_fast.errors import StorageError
from dmsign_fast.outputs import Outputs, storage_errors, write_all


class SomethingWrongError(Exception):
    """Raised in the midst of the work."""


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def no_nameless_files(monkeypatch):
    """Make this a file system that has no O_TMPFILE, as NFS."""
    real = os.open

    def open_(path, flags, *rest, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", open_)


@pytest.fixture(params=["nameless", "named"])
def _both_ways(request, monkeypatch):
    if request.param == "named":
        no_nameless_files(monkeypatch)


@pytest.mark.usefixtures("_both_ways")
class TestNewFiles:
    def test_appear_together_at_the_end(self, tmp_path):
        names = ("a", "b")
        with Outputs() as outputs:
            for name in names:
                write_all(outputs.open(tmp_path / name), name.encode(), 0)
            assert not {path.name for path in tmp_path.iterdir()} & set(names)
        assert contents(tmp_path) == {"a": b"a", "b": b"b"}

    def test_do_not_appear_when_something_fails(self, tmp_path):
        write(tmp_path / "old", b"old")
        with pytest.raises(SomethingWrongError), Outputs() as outputs:
            outputs.write(tmp_path / "old", b"new")
            outputs.write(tmp_path / "new", b"new")
            raise SomethingWrongError
        assert contents(tmp_path) == {"old": b"old"}

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
    def test_do_not_appear_when_interrupted(self, interruption, tmp_path):
        with pytest.raises(interruption), Outputs() as outputs:
            outputs.write(tmp_path / "new", b"new")
            raise interruption
        assert contents(tmp_path) == {}

    def test_replace_old_ones_and_keep_their_mode(self, tmp_path):
        old = write(tmp_path / "old", b"old and longer")
        old.chmod(0o640)
        with Outputs() as outputs:
            outputs.write(old, b"new")
        assert old.read_bytes() == b"new"
        assert stat.S_IMODE(old.stat().st_mode) == 0o640

    def test_have_the_mode_that_the_umask_leaves(self, tmp_path):
        before = os.umask(0o027)
        try:
            with Outputs() as outputs:
                outputs.write(tmp_path / "new", b"")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640

    def test_go_where_a_symbolic_link_points(self, tmp_path):
        target = tmp_path / "below" / "target"
        target.parent.mkdir()
        link = tmp_path / "link"
        link.symlink_to("below/target")
        for text in (b"dangling", b"existing"):
            with Outputs() as outputs:
                outputs.write(link, text)
            assert link.is_symlink()
            assert contents(target.parent) == {"target": text}

    def test_may_have_names_as_long_as_names_can_be(self, tmp_path):
        path = tmp_path / ("n" * 255)
        with Outputs() as outputs:
            outputs.write(path, b"new")
        assert list(contents(tmp_path)) == [path.name]

    def test_need_no_more_than_a_relative_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with Outputs() as outputs:
            outputs.write(Path("new"), b"new")
        assert contents(tmp_path) == {"new": b"new"}

    def test_leave_other_names_of_the_old_file_alone(self, tmp_path):
        old = write(tmp_path / "old", b"old")
        (tmp_path / "other").hardlink_to(old)
        with Outputs() as outputs:
            outputs.write(old, b"new")
        assert contents(tmp_path) == {"old": b"new", "other": b"old"}

    def test_replace_a_file_that_may_not_be_linked(self, tmp_path, monkeypatch):
        """Somebody else's (fs.protected_hardlinks), or on a file system without hard links."""
        real = os.link

        def link(source, *rest, **options):
            if not str(source).startswith("/proc/self/fd/"):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            return real(source, *rest, **options)

        old = write(tmp_path / "old", b"old")
        monkeypatch.setattr(os, "link", link)
        with Outputs() as outputs:
            outputs.write(old, b"new")
        assert contents(tmp_path) == {"old": b"new"}

    @pytest.mark.parametrize("where", ["missing/new", "file/new", "directory"])
    def test_that_cannot_be_made_are_a_storage_error(self, where, tmp_path):
        write(tmp_path / "file", b"")
        (tmp_path / "directory").mkdir()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(StorageError, match="cannot write"), Outputs() as outputs:
            outputs.open(tmp_path / where)
        assert sorted(tmp_path.rglob("*")) == before

    def test_close_every_descriptor(self, tmp_path):
        def descriptors():
            return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        before = descriptors()
        with Outputs() as outputs:
            outputs.write(tmp_path / "new", b"new")
        with pytest.raises(StorageError), Outputs() as outputs:
            outputs.write(tmp_path / "other", b"new")
            outputs.open(tmp_path / "missing" / "new")
        assert descriptors() == before

    @pytest.mark.parametrize("call", ["fsync", "link", "pwrite", "rename"])
    def test_none_appears_whichever_call_fails_and_old_ones_stay(self, call, tmp_path, monkeypatch):
        owner = Path if call == "rename" else os
        real = getattr(owner, call)
        for failing in range(9):
            for old in ("a", "b", "c"):
                write(tmp_path / old, b"old")
            calls = []

            def fail(*arguments, failing=failing, calls=calls, **options):
                calls.append(arguments)
                if len(calls) > failing:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*arguments, **options)

            monkeypatch.setattr(owner, call, fail)
            try:
                with Outputs() as outputs:
                    for name in ("a", "b", "c"):
                        outputs.write(tmp_path / name, b"new")
            except StorageError as error:
                assert "No space left on device: free some space" in str(error)  # noqa: PT017
                found = contents(tmp_path)
                # once all have their places, it is too late; never are there some of each
                assert set(found.values()) == {b"old"} or (
                    call == "fsync" and failing >= 3 and set(found.values()) == {b"new"}
                )
                assert sorted(found) == ["a", "b", "c"]
            else:
                assert contents(tmp_path) == {"a": b"new", "b": b"new", "c": b"new"}
            monkeypatch.undo()


def test_the_last_rename_that_fails_takes_the_others_back(tmp_path, monkeypatch):
    """A name that is a mount point, as containers have, can be written and not renamed onto."""
    real = Path.rename

    def rename(path, target):
        if Path(target).name == "busy":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return real(path, target)

    write(tmp_path / "old", b"old")
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageError, match="busy"), Outputs() as outputs:
        for name in ("old", "new", "busy"):
            outputs.write(tmp_path / name, b"new")
    assert contents(tmp_path) == {"old": b"old"}


@pytest.mark.parametrize("same", ["file", "./file", "link"])
def test_two_outputs_cannot_be_one_file(same, tmp_path):
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(Exception, match=r"overwrite|two outputs") as caught, Outputs() as outputs:
        outputs.write(tmp_path / "file", b"one")
        outputs.write(tmp_path / same, b"other")
    assert caught.value.exit_code in (2, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


class TestAFileInPlace:
    def test_keeps_what_stands_elsewhere_in_it(self, tmp_path):
        path = write(tmp_path / "file", b"0123456789")
        with Outputs() as outputs:
            write_all(outputs.open_in_place(path), b"abc", 12)
        assert path.read_bytes() == b"0123456789\0\0abc"

    def test_is_cut_back_when_something_fails(self, tmp_path):
        path = write(tmp_path / "file", b"0123456789")
        with pytest.raises(SomethingWrongError), Outputs() as outputs:
            write_all(outputs.open_in_place(path), b"abc", 12)
            raise SomethingWrongError
        assert path.read_bytes() == b"0123456789"

    @pytest.mark.parametrize("call", ["fsync", "link"])
    def test_is_cut_back_when_a_file_beside_it_cannot_be_finished(
        self, call, tmp_path, monkeypatch
    ):
        path = write(tmp_path / "file", b"0123456789")
        real = getattr(os, call)
        calls = []

        def fail_late(*arguments, **options):
            calls.append(arguments)
            if call == "link" or len(calls) > 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments, **options)

        monkeypatch.setattr(os, call, fail_late)
        with pytest.raises(StorageError), Outputs() as outputs:
            write_all(outputs.open_in_place(path), b"abc", 12)
            outputs.write(tmp_path / "beside", b"new")
        assert contents(tmp_path) == {"file": b"0123456789"}

    def test_must_exist(self, tmp_path):
        with pytest.raises(StorageError, match="No such file"), Outputs() as outputs:
            outputs.open_in_place(tmp_path / "missing")


def test_write_all_goes_on_after_short_writes(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))
    with Outputs() as outputs:
        write_all(outputs.open(tmp_path / "new"), b"0123456789", 2)
    assert (tmp_path / "new").read_bytes() == b"\0\x000123456789"


def test_an_error_of_the_system_says_what_to_which_file():
    wanted = r"^cannot burn x: Permission denied$"
    with pytest.raises(StorageError, match=wanted), storage_errors("burn", "x"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match="which a file would replace"), Outputs() as outputs:
        outputs.write(pipe, b"data")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]
