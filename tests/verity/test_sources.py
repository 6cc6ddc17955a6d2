"""Where data comes from does not matter: files with holes, pipes, devices; and what goes wrong."""

import os
import re
import sys
import threading
from pathlib import Path

import pytest
from helpers import DMSIGN, cli, dmsign, noise, program, run, write
from hypothesis import given
from hypothesis import strategies as st

from dmsign_fast.errors import ParameterError, StorageError
from dmsign_fast.verity.format import format_file
from dmsign_fast.verity.params import VerityParams
from dmsign_fast.verity.tree import VerityHasher

SMALL = VerityParams(data_block_size=512, hash_block_size=512, salt=b"salt")
PARAMS = VerityParams(salt=b"salt")
MIB = 1 << 20


def root_hash(data, params=PARAMS):
    hasher = VerityHasher(params)
    hasher.update(data)
    return hasher.finalize().root_hash


def with_holes(path, content, holes):
    """Write ``content``, but leave out the ranges (start, end), which the caller zeroed in it."""
    with path.open("wb") as file:
        file.truncate(len(content))
        at = 0
        for start, end in [*sorted(holes), (len(content), len(content))]:
            if start > at:
                file.seek(at)
                file.write(content[at:start])
            at = max(at, end)
    return path


class TestSparseFiles:
    @pytest.mark.parametrize(
        "holes",
        [
            [(0, 64)],
            [(100, 164)],
            [(192, 256)],
            [(0, 16), (64, 80), (240, 256)],
            [(0, 256)],
            [(0, 255)],
            [(1, 256)],
        ],
        ids=str,
    )
    def test_hash_as_the_dense_file_does(self, holes, tmp_path):
        content = bytearray(noise(256 * 4096))
        places = [(start * 4096, end * 4096) for start, end in holes]
        for start, end in places:
            content[start:end] = bytes(end - start)
        sparse = with_holes(tmp_path / "sparse", content, places)
        assert sparse.stat().st_blocks * 512 < len(content), "this file system has no holes"
        dense = write(tmp_path / "dense", content)
        for params in (PARAMS, SMALL, VerityParams(data_block_size=65536, salt=b"")):
            made = format_file(sparse, tmp_path / "sparse.hash", params)
            other = format_file(dense, tmp_path / "dense.hash", params)
            assert made.root_hash == other.root_hash == root_hash(content, params)
            areas = [(tmp_path / f"{name}.hash").read_bytes()[512:] for name in ("sparse", "dense")]
            assert areas[0] == areas[1]

    @given(
        runs=st.lists(st.tuples(st.booleans(), st.integers(1, 90_000)), min_size=1, max_size=8),
        block_size=st.sampled_from([512, 4096, 32768]),
        blocks=st.integers(1, 10),
    )
    def test_hash_right_wherever_the_holes_are(self, tmp_path, runs, block_size, blocks):
        content, holes = b"", []
        for hole, size in runs:
            if hole:
                holes.append((len(content), len(content) + size))
            content += bytes(size) if hole else noise(size)
        content = content[: len(content) // block_size * block_size] or bytes(block_size)
        holes = [(start, min(end, len(content))) for start, end in holes if start < len(content)]
        path = with_holes(tmp_path / "sparse", content, holes)
        params = VerityParams(data_block_size=block_size, salt=b"")
        assert format_file(path, None, params).root_hash == root_hash(content, params)
        blocks = min(blocks, len(content) // block_size)
        some = format_file(path, None, params, data_blocks=blocks)
        assert some.root_hash == root_hash(content[: blocks * block_size], params)

    def test_may_be_large_and_nothing_but_a_hole(self, tmp_path):
        path = tmp_path / "hole"
        with path.open("wb") as file:
            file.truncate(16 << 30)
        made = format_file(path, None, PARAMS)
        hasher = VerityHasher(PARAMS)
        hasher.update_zeros((16 << 30) // 4096)
        assert made.root_hash == hasher.finalize().root_hash

    def test_are_hashed_by_other_algorithms_too(self, tmp_path):
        content = bytes(40 * 4096) + noise(4096) + bytes(40 * 4096)
        path = with_holes(tmp_path / "x", content, [(0, 40 * 4096), (41 * 4096, 81 * 4096)])
        params = VerityParams(hash_algorithm="sha512", salt=b"")
        assert format_file(path, None, params).root_hash == root_hash(content, params)


class TestPipes:
    @pytest.mark.parametrize("size", [4096, MIB, 8 * MIB, 8 * MIB + 4096, 20 * MIB])
    def test_give_the_hash_file_of_the_file(self, size, tmp_path):
        data = write(tmp_path / "data", noise(4096) * (size // 4096))
        options = ["--salt", "00ff", "--uuid", "3f3d53fd-0038-4c72-a5f0-0d4802e76b45"]
        wanted = cli("verity", "format", data, tmp_path / "file.hash", *options)
        found = run(
            *(program("bash"), "-c", 'cat "$0" | "$@"', data, *DMSIGN),
            *("verity", "format", "-", tmp_path / "pipe.hash", *options),
        )
        assert found.exit_code == 0, found.err
        assert found.root_hash == wanted.root_hash
        assert (tmp_path / "pipe.hash").read_bytes() == (tmp_path / "file.hash").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "data",
            "file.hash",
            "pipe.hash",
        ]

    def test_may_have_a_name_and_come_in_drops(self, tmp_path):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        content = noise(100 * 4096)

        def drip():
            with fifo.open("wb", buffering=0) as file:
                for at in range(0, len(content), 9999):
                    file.write(content[at : at + 9999])

        writer = threading.Thread(target=drip)
        writer.start()
        made = format_file(fifo, tmp_path / "hashes", PARAMS)
        writer.join()
        assert (made.data_blocks, made.root_hash) == (100, root_hash(content))

    def test_may_be_process_substitution(self, tmp_path):
        data = write(tmp_path / "data", noise(300 * 4096))
        done = run(
            program("bash"), "-c", '"${@:2}" verity format <(cat "$1") -s -', "_", data, *DMSIGN
        )
        assert done.exit_code == 0, done.err
        assert done.root_hash == root_hash(data.read_bytes(), VerityParams(salt=b""))

    def test_are_read_as_far_as_data_blocks_says(self, tmp_path):
        content = noise(50 * 4096)
        data = write(tmp_path / "data", content + b"and more")
        done = run(
            *(program("bash"), "-c", 'cat "$0" | "$@"', data, *DMSIGN),
            *("verity", "format", "-", tmp_path / "hashes", "-s", "-", "--data-blocks", "50"),
        )
        assert done.exit_code == 0, done.err
        assert done.root_hash == root_hash(content, VerityParams(salt=b""))

    def test_without_an_end_are_read_as_far_as_data_blocks_says(self):
        made = format_file(Path("/dev/zero"), None, PARAMS, data_blocks=3000)
        assert made.root_hash == root_hash(bytes(3000 * 4096))

    @pytest.mark.parametrize("size", [0, 1, 4096, 9 * 4096 + 4095])
    def test_that_end_early_are_a_storage_error(self, size, tmp_path):
        done = dmsign(
            *("verity", "format", "-", "hashes", "--data-blocks", "10"),
            input=noise(size),
            cwd=tmp_path,
        )
        assert done.exit_code == 4
        assert f"{10 * 4096 - size} bytes before 10 blocks" in done.err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("size", [0, 1, 4097])
    def test_must_hold_whole_blocks(self, size, tmp_path):
        done = dmsign("verity", "format", "-", "hashes", input=noise(size), cwd=tmp_path)
        assert done.exit_code == 2
        assert ("no data" if not size else "pad it with") in done.err
        assert not list(tmp_path.iterdir())

    def test_cannot_be_verified(self, tmp_path):
        data = write(tmp_path / "data", noise(8192))
        cli("verity", "format", data, tmp_path / "hashes")
        for names in (("-", tmp_path / "hashes"), (data, "-")):
            done = dmsign("verity", "verify", *names, "00" * 32, input=b"")
            assert done.exit_code == 2
            assert "is a pipe" in done.err

    def test_leave_no_spool_behind_when_they_fail(self, tmp_path):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)

        def feed():
            with fifo.open("wb", buffering=0) as file:
                file.write(noise(512) * 20_001 + b"x")

        writer = threading.Thread(target=feed)
        writer.start()
        with pytest.raises(ParameterError, match="pad it"):
            format_file(fifo, tmp_path / "hashes", SMALL)
        writer.join()
        assert [path.name for path in tmp_path.iterdir()] == ["fifo"]

    def test_whose_spool_cannot_be_made_are_a_storage_error(self, tmp_path, monkeypatch):
        """As when HASH is a device that may be written, in a directory that may not."""

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
        reading, writing = os.pipe()
        os.write(writing, noise(8192))
        os.close(writing)
        with pytest.raises(StorageError, match="Permission denied"):
            format_file(Path(f"/dev/fd/{reading}"), tmp_path / "hashes", PARAMS)
        os.close(reading)


class TestRedirectedFiles:
    def test_are_files_and_can_be_verified(self, tmp_path):
        data = write(tmp_path / "data", noise(50 * 4096))
        with data.open("rb") as stdin:
            made = dmsign("verity", "format", "-", tmp_path / "hashes", stdin=stdin)
        assert made.exit_code == 0, made.err
        with data.open("rb") as stdin:
            root = made.root_hash.hex()
            done = dmsign("verity", "verify", "-", tmp_path / "hashes", root, stdin=stdin)
        assert done.exit_code == 0, done.err


class TestAFileThatChanges:
    """While it is hashed: by a progress callback, which is called in the midst of the work."""

    CONTENT = noise(4096) * 1280

    @pytest.fixture(autouse=True)
    def _small_steps(self, monkeypatch):
        monkeypatch.setattr("dmsign_fast.verity.reading._FIRST_SPAN", MIB)
        monkeypatch.setattr("dmsign_fast.verity.reading._SHORT", 0)  # they do not grow

    def change_on_progress(self, path, change):
        """Return a callback that changes the file once."""
        calls = []

        def progress(_):
            if not calls:
                change(path)
            calls.append(1)

        return progress

    def test_by_shrinking_is_an_error_with_its_offset_and_never_a_root_hash(self, tmp_path):
        def shrink(path):
            os.truncate(path, 3 * MIB + 1000)

        data = write(tmp_path / "data", self.CONTENT)
        with pytest.raises(StorageError, match=r"at byte 3146728: the file ends here"):
            format_file(
                data, tmp_path / "hashes", PARAMS, progress=self.change_on_progress(data, shrink)
            )
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    @pytest.mark.parametrize("size", [0, 1000, MIB])
    def test_by_shrinking_before_the_place_that_is_read(self, size, tmp_path):
        def shrink(path):
            os.truncate(path, size)

        data = write(tmp_path / "data", self.CONTENT)
        with pytest.raises(StorageError, match=r"byte \d+"):
            format_file(data, None, PARAMS, progress=self.change_on_progress(data, shrink))

    def test_by_shrinking_within_a_hole(self, tmp_path):
        data = tmp_path / "data"
        with data.open("wb") as file:
            file.truncate(4 << 30)
        progress = self.change_on_progress(data, lambda path: os.truncate(path, 3 << 30))
        with pytest.raises(StorageError):
            format_file(data, None, PARAMS, progress=progress)

    def test_by_shrinking_and_growing_again(self, tmp_path):
        def punch(path):
            os.truncate(path, 0)
            os.truncate(path, len(self.CONTENT))

        data = write(tmp_path / "data", self.CONTENT)
        progress = self.change_on_progress(data, punch)
        with pytest.raises(StorageError, match="was changed while it was read"):
            format_file(data, None, PARAMS, progress=progress)

    @pytest.mark.parametrize("mtime", ["new", "restored"])
    def test_in_its_content(self, mtime, tmp_path):
        def change(path):
            before = path.stat()
            with path.open("r+b") as file:
                file.write(b"changed")
            if mtime == "restored":
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        data = write(tmp_path / "data", self.CONTENT)
        with pytest.raises(StorageError, match="was changed while it was read"):
            format_file(
                data, tmp_path / "hashes", PARAMS, progress=self.change_on_progress(data, change)
            )
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    def test_by_growing(self, tmp_path):
        def grow(path):
            with path.open("ab") as file:
                file.write(b"more")

        data = write(tmp_path / "data", self.CONTENT)
        with pytest.raises(StorageError, match="was changed while it was read"):
            format_file(data, None, PARAMS, progress=self.change_on_progress(data, grow))

    def test_by_shrinking_while_the_hash_area_is_appended_to_it(self, tmp_path, monkeypatch):
        """What is written behind its end then makes a hole of what was cut, and no shorter file."""
        data = write(tmp_path / "data", self.CONTENT)
        update_file = VerityHasher.update_file

        def shrink_after(hasher, fd, offset, blocks, **options):
            update_file(hasher, fd, offset, blocks, **options)
            if not offset:
                os.truncate(data, MIB)

        monkeypatch.setattr(VerityHasher, "update_file", shrink_after)
        with pytest.raises(StorageError):
            format_file(data, data, SMALL, hash_offset=len(self.CONTENT))


class TestBadData:
    def test_a_missing_file(self, tmp_path):
        with pytest.raises(StorageError, match=r"cannot read .*missing: No such file"):
            format_file(tmp_path / "missing", None, PARAMS)

    def test_a_directory(self, tmp_path):
        with pytest.raises(StorageError, match="Is a directory"):
            format_file(tmp_path, None, PARAMS)

    def test_a_path_below_a_file(self, tmp_path):
        file = write(tmp_path / "file", bytes(4096))
        with pytest.raises(StorageError, match="Not a directory"):
            format_file(file / "data", None, PARAMS)
        with pytest.raises(StorageError, match="Not a directory"):
            format_file(file, file / "hashes", PARAMS)

    def test_an_empty_file(self, tmp_path):
        with pytest.raises(ParameterError, match="is empty"):
            format_file(write(tmp_path / "empty", b""), None, PARAMS)

    @pytest.mark.parametrize("size", [1, 4095, 4097, 8191])
    def test_a_partial_last_block_is_said_how_to_cure(self, size, tmp_path):
        path = write(tmp_path / "data", noise(size))
        with pytest.raises(ParameterError, match=rf"{size} bytes, not a multiple.*truncate -s %40"):
            format_file(path, None, PARAMS)
        run("truncate", "-s", "%4096", path)
        assert format_file(path, None, PARAMS).data_blocks == -(-size // 4096)

    def test_the_cure_that_is_offered_never_cannot_work(self, tmp_path):
        with pytest.raises(ParameterError) as caught:
            format_file(write(tmp_path / "data", b"short"), None, PARAMS)
        assert "--data-blocks 0" not in str(caught.value)

    def test_fewer_blocks_than_asked_for(self, tmp_path):
        path = write(tmp_path / "data", noise(8192))
        with pytest.raises(StorageError, match="fewer than 3 blocks"):
            format_file(path, None, PARAMS, data_blocks=3)

    def test_a_file_that_may_not_be_read(self, tmp_path):
        path = write(tmp_path / "data", noise(8192))
        path.chmod(0)
        if os.geteuid():
            with pytest.raises(StorageError, match="Permission denied"):
                format_file(path, None, PARAMS)
            return
        # root may read everything, and nobody may not come here through pytest's directories
        script = (
            "import os, sys; from pathlib import Path\n"
            "from dmsign_fast.errors import StorageError\n"
            "from dmsign_fast.verity.format import format_file\n"
            "os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
            "try: format_file(Path('data'))\n"
            "except StorageError as error: print(error)\n"
        )
        done = run(sys.executable, "-c", script, tmp_path)
        assert re.search("cannot read data: Permission denied", done.out), done


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make loop devices")
class TestBlockDevices:
    @pytest.fixture
    def loop(self):
        """Make loop devices of files, and detach them at the end."""
        made = []

        def attach(path):
            done = run(program("losetup"), "--find", "--show", path)
            assert done.exit_code == 0, done.err
            made.append(done.out.strip())
            return Path(made[-1])

        yield attach
        for device in made:
            run(program("losetup"), "--detach", device)

    def test_are_hashed_and_verified_like_files(self, loop, tmp_path):
        content = noise(300 * 4096)
        data = loop(write(tmp_path / "data", content))
        made = format_file(data, tmp_path / "hashes", PARAMS)
        assert made.root_hash == root_hash(content)
        done = cli("verity", "verify", data, tmp_path / "hashes", made.root_hash.hex())
        assert done.exit_code == 0, done.err

    def test_take_the_hash_area_in_place(self, loop, tmp_path):
        data = write(tmp_path / "data", noise(300 * 4096))
        device = loop(write(tmp_path / "room", noise(MIB)))
        made = format_file(data, device, PARAMS)
        done = cli("verity", "verify", data, device, made.root_hash.hex())
        assert done.exit_code == 0, done.err
        assert device.is_block_device()

    def test_take_data_and_hash_area(self, loop, tmp_path):
        device = loop(write(tmp_path / "room", noise(MIB)))
        made = format_file(device, device, PARAMS, data_blocks=200, hash_offset=200 * 4096)
        done = cli(
            *("verity", "verify", device, device, made.root_hash.hex()),
            *("--hash-offset", 200 * 4096),
        )
        assert done.exit_code == 0, done.err

    def test_that_are_too_small_for_the_hash_area_are_left_alone(self, loop, tmp_path):
        data = write(tmp_path / "data", noise(300 * 4096))
        room = write(tmp_path / "room", noise(8192))
        with pytest.raises(StorageError, match=r"8192 bytes.* hash area .*ends?"):
            format_file(data, loop(room), PARAMS)
        assert room.read_bytes() == noise(8192)

    def test_that_fail_to_read_are_a_storage_error(self, loop, tmp_path):
        """The file below a loop device is cut: reading behind its end is an I/O error."""
        path = write(tmp_path / "data", noise(MIB))
        device = loop(path)
        os.truncate(path, MIB // 2)
        with pytest.raises(StorageError, match=r"cannot read at byte \d+: Input/output error"):
            format_file(device, None, PARAMS)
