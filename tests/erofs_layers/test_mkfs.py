"""mkfs.erofs as a converter: real ones of two versions, and pretenders that misbehave."""

import io
import logging
import os
import re
import shlex
import stat
import subprocess
import sys
import tarfile
import uuid
from pathlib import Path

import pytest
from erofs import mkfs_twin
from helpers import noise, wait_until

from dmsign_fast.erofs import mkfs
from dmsign_fast.erofs.mkfs import MkfsErofs, check_options
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.errors import FormatError, ParameterError, ProgramError, StorageError
from dmsign_fast.pipeline.layers import hash_layer

UUID = uuid.UUID(mkfs_twin.UUID)
FULL = (*mkfs_twin.LAYOUTS["A"], "-T0", "--mkfs-time")
INDEX = (*mkfs_twin.LAYOUTS["D"], "-T0", "--mkfs-time")
LONG = 60


@pytest.fixture(scope="session", params=mkfs_twin.SUITES)
def twin(request):
    try:
        return mkfs_twin.mkfs(request.param)
    except mkfs_twin.UnavailableError as why:
        pytest.fail(str(why))


@pytest.fixture
def real(twin):
    return MkfsErofs.of_command(twin.command)


@pytest.fixture(scope="session")
def tar_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tar") / "-layer.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(40):
            entry = tarfile.TarInfo(f"some/directory/{number}")
            entry.size, entry.mtime = number * 700, number
            tar.addfile(entry, io.BytesIO(noise(entry.size)))
        tar.addfile(tarfile.TarInfo("some/.wh.gone"))
    return path


@pytest.fixture
def files(tmp_path, tar_path):
    """The descriptors of a tar and of an image to be; the directory for scratch stays empty."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    tar = os.open(tar_path, os.O_RDONLY)
    image = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    os.write(image, b"left over")
    yield tar, image
    os.close(tar)
    os.close(image)
    assert not list(scratch.iterdir())


def convert(program, files, tmp_path, arguments=FULL, timeout=LONG, **options):
    program.convert(
        *files, arguments, UUID, timeout=timeout, scratch=tmp_path / "scratch", **options
    )
    return (tmp_path / "image").read_bytes()


def fails(program, files, tmp_path, error, words, **options):
    with pytest.raises(error, match=words or None):
        convert(program, files, tmp_path, **options)
    assert os.fstat(files[1]).st_size == 0


def pretender(tmp_path, script):
    """A program in place of mkfs.erofs; its image is $image and its tar $tar."""
    path = tmp_path / "bin" / "mkfs.erofs"
    path.parent.mkdir()
    words = 'for word; do image=$tar; tar=$word; done\ncd "${0%/*}"\n'
    path.write_text(f"#!/bin/sh\n{words}{script}\n")
    path.chmod(0o755)
    return MkfsErofs((str(path),), "1.9.4")


@pytest.mark.parametrize("layout", ["A", "D", "sorted"])
def test_the_image_is_that_of_the_program_by_itself(
    twin, real, files, tar_path, tmp_path, layout, monkeypatch
):
    arguments = {"A": FULL, "D": INDEX, "sorted": [*FULL[:-3], *FULL[-2:]]}[layout]
    monkeypatch.setitem(mkfs_twin.LAYOUTS, "sorted", mkfs_twin.LAYOUTS["A"][:-1])
    twin.build(tar_path, tmp_path / "expected", layout)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    image = convert(real, files, tmp_path, arguments)
    assert image == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize("extra", ["--force-uid=7 -zlz4hc,level=5", "-Lname -b1024"])
def test_options_of_the_user_come_last(twin, real, files, tar_path, tmp_path, extra):
    options = tuple(shlex.split(extra))
    twin.build(tar_path, tmp_path / "expected", "A", extra=options)
    image = convert(real, files, tmp_path, options=options)
    assert image == (tmp_path / "expected").read_bytes()
    assert image != convert(real, files, tmp_path)


@pytest.mark.parametrize("order", ["path", "none"])
def test_the_order_of_files_that_the_user_wants(twin, real, files, tar_path, tmp_path, order):
    """containerd's own options have no --sort=none, which mkfs.erofs could not undo."""
    monkey = mkfs_twin.LAYOUTS | {"sorted": mkfs_twin.LAYOUTS["A"][:-1]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mkfs_twin, "LAYOUTS", monkey)
        twin.build(tar_path, tmp_path / "expected", "sorted" if order == "path" else "A")
    image = convert(real, files, tmp_path, options=[f"--sort={order}"])
    assert image == (tmp_path / "expected").read_bytes()
    assert (image == convert(real, files, tmp_path)) == (order == "none")


AS_NOBODY = """
import os, sys
from dmsign_fast.errors import ProgramError
from dmsign_fast.erofs import mkfs, mkfs_hasher
from dmsign_fast.pipeline.layers import Conversion, hash_layer
from dmsign_fast.erofs.recipe import Recipe
os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
if sys.argv[2]:
    mkfs._environment = lambda: {"PATH": sys.argv[2], "LC_ALL": "C"}
tar = os.fdopen(0, "rb").read()  # closes it: the next file has the descriptor 0
try:
    how = Conversion(converter="mkfs", mkfs=mkfs.MkfsErofs(tuple(sys.argv[3:]), sys.argv[1]))
    layer = hash_layer([tar], Recipe.parse(f"osguard@{sys.argv[1]}"), conversion=how)
    print(layer.image.root_hash.hex())
except ProgramError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="as a plain user every test is this one")
@pytest.mark.parametrize("namespaces", [True, False])
def test_a_plain_user_gets_the_image_of_root_or_none(twin, tar_path, namespaces):
    """A tar without ./, where mkfs.erofs 1.9 gives the root directory to who calls it."""
    if not all(parent.stat().st_mode & 0o001 for parent in Path(__file__).parents):
        pytest.skip("other users may not enter this directory: as a plain user every test is this")
    tar = tar_path.read_bytes()
    wanted = hash_layer([tar], Recipe.parse(f"osguard@{twin.version}")).image.root_hash.hex()
    path = "" if namespaces else "/nowhere"
    command = [sys.executable, "-c", AS_NOBODY, twin.version, path, *twin.command]
    done = subprocess.run(command, input=tar, capture_output=True, check=True)
    said = done.stdout.decode().strip()
    if namespaces:
        assert said == wanted
    else:
        assert said.startswith("mkfs.erofs makes the images of a node only as root")


def test_the_version_is_what_the_program_says(twin, real):
    assert (real.version, real.command) == (twin.version, twin.command)


@pytest.mark.parametrize("arguments", [FULL, INDEX], ids=["full", "index"])
@pytest.mark.parametrize("damage", ["noise", "truncated"])
def test_a_bad_tar_is_refused_in_the_words_of_the_program(
    real, files, tmp_path, tar_path, damage, arguments
):
    data = tar_path.read_bytes()
    bad = tmp_path / "bad.tar"
    bad.write_bytes(noise(len(data)) if damage == "noise" else data[:-20000])
    error, words = (
        FormatError,
        rf"mkfs.erofs {real.version} refuses the tar, exit status \d+: .*erofs",
    )
    spins = (real.version, damage, arguments) == ("1.8.6", "truncated", FULL)
    if spins:
        error, words = ProgramError, r"mkfs.erofs 1\.8\.6 did not end within 1 s"
    with bad.open("rb") as file:
        fails(
            real,
            (file.fileno(), files[1]),
            tmp_path,
            error,
            words,
            arguments=arguments,
            timeout=1 if spins else LONG,
        )


def test_a_tar_is_a_regular_file(real, files, tmp_path):
    reading, writing = os.pipe()
    with pytest.raises(ParameterError, match="regular file"):
        convert(real, (reading, files[1]), tmp_path)
    os.close(reading)
    os.close(writing)


def test_what_cannot_be_written_is_an_error_of_storage(real, files, tar_path, tmp_path):
    read_only = os.open(tar_path, os.O_RDONLY)
    with pytest.raises(StorageError, match="cannot make room"):
        convert(real, (files[0], read_only), tmp_path)
    os.close(read_only)
    with pytest.raises(StorageError, match="cannot make room"):
        real.convert(*files, FULL, UUID, timeout=LONG, scratch=tmp_path / "nowhere")


MISDEEDS = {
    "hangs": ("exec sleep 600", ProgramError, r"1\.9\.4 did not end within 1 s"),
    "floods": ("exec yes >&2", ProgramError, "wrote more than"),
    "crashes": ("kill -SEGV $$", ProgramError, "killed by SIGSEGV"),
    "fails": (
        'echo "<E> erofs: no: \033[31m" >&2; exit 22',
        FormatError,
        r"exit status 22: <E> erofs: no: \?\[31m",
    ),
    "fails in silence": ("exit 1", FormatError, "exit status 1: it does not say why"),
    "fails with a sparse file": ("truncate -s 2T $image; exit 1", FormatError, "exit status 1"),
    "runs away": (
        "while [ $(ulimit -f) = unlimited ]; do sleep 0.01; done; exec truncate -s 3T $image",
        ProgramError,
        "killed by SIGXFSZ",
    ),
    "finds no space": (
        "echo write: No space left on device >&2; exit 1",
        StorageError,
        "free some space",
    ),
    "writes nothing": ("exit 0", ProgramError, "left no image"),
    "writes noise": ("head -c 8192 /dev/urandom > $image", ProgramError, "other than EROFS"),
    "makes another image": (
        "cp ../another $image",
        ProgramError,
        "image with UUID 0{8}-.*, not c1b9d5a2-",
    ),
    "makes half an image": (
        "head -c 4096 ../expected > $image",
        ProgramError,
        r"left 4096 bytes of an image of \d{6}",
    ),
    "litters": ("echo > $TMPDIR/a; mkdir $TMPDIR/b; exit 1", FormatError, "exit status 1"),
}


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_misdeeds_are_errors_and_leave_nothing(files, tar_path, tmp_path, misdeed):
    if "image" in misdeed:
        version = next(iter(mkfs_twin.SUITES))
        twin = mkfs_twin.mkfs(version)
        twin.build(tar_path, tmp_path / "expected", "A")
        twin.build(tar_path, tmp_path / "another", "A", extra=("-Uclear",))
    script, error, words = MISDEEDS[misdeed]
    program = pretender(tmp_path, script)
    fails(program, files, tmp_path, error, words, timeout=1 if misdeed == "hangs" else LONG)


def test_one_that_ignores_sigterm_goes_with_its_children(files, tmp_path):
    script = """trap '' TERM
sh -c 'trap "" TERM; echo $$ > pid; exec sleep 600' &
while ! [ -s pid ]; do sleep 0.01; done
cat /dev/zero; sleep 600"""
    fails(pretender(tmp_path, script), files, tmp_path, ProgramError, "wrote more than")
    pid = (tmp_path / "bin" / "pid").read_text().strip()
    status = Path(f"/proc/{pid}/status")
    wait_until(
        lambda: not status.exists() or "State:\tZ" in status.read_text(), "the grandchild's end"
    )


def test_an_interrupt_leaves_nothing(files, tmp_path, monkeypatch):
    def interrupted(*_, **options):
        Path(options["environment"]["TMPDIR"], "half").touch()
        os.write(files[1], b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(mkfs, "run_program", interrupted)
    fails(MkfsErofs(("x",), "1.9.4"), files, tmp_path, KeyboardInterrupt, "")


def test_the_program_sees_little(files, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    program = pretender(tmp_path, "env | cut -d= -f1 | grep -v PWD | sort >&2; exit 1")
    words = "exit status 1: LC_ALL; PATH; TMPDIR; _?"
    fails(program, files, tmp_path, FormatError, words.removesuffix("; _?") + "(; _)?$")
    program = MkfsErofs(("sh", "-c", "ls -ln /proc/self/fd >&2; exit 1"), "1.9.4")
    with pytest.raises(FormatError) as caught:
        convert(program, files, tmp_path)
    assert str(tmp_path / "image") in str(caught.value)


def test_the_network_is_taken_away_where_that_is_possible(files, tmp_path, caplog, monkeypatch):
    program = pretender(tmp_path, "echo net $(readlink /proc/self/ns/net) >&2; exit 1")
    ours = Path("/proc/self/ns/net").readlink()
    try:
        mkfs._confined.cache_clear()
        caplog.set_level(logging.INFO, "dmsign_fast.erofs.mkfs")
        with pytest.raises(FormatError, match=r"net net:\[\d+\]") as caught:
            convert(program, files, tmp_path)
        assert (f"net {ours}" in str(caught.value)) == ("keeps its access" in caplog.text)

        caplog.clear()
        mkfs._confined.cache_clear()
        (tmp_path / "without").mkdir()
        for tool in ("sh", "readlink"):
            found = next(p for p in ("/bin", "/usr/bin") if Path(p, tool).exists())
            (tmp_path / "without" / tool).symlink_to(Path(found, tool))
        monkeypatch.setenv("PATH", str(tmp_path / "without"))
        if os.getuid():  # who is no root without unshare either
            fails(program, files, tmp_path, ProgramError, "cannot run unshare.*: run as root")
            return
        with pytest.raises(FormatError, match="net ") as caught:
            convert(program, files, tmp_path)
        assert f"net {ours}" in str(caught.value)
        assert "keeps its access to the network: cannot run unshare" in caplog.text
    finally:
        mkfs._confined.cache_clear()


def speaker(tmp_path, says):
    path = tmp_path / "mkfs.erofs"
    path.write_text(f"#!/bin/sh\n[ $# = 1 ] && [ $1 = -V ] || exit 9\n{says}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["1.7.1", "1.8", "1.8.10", "1.10.0"])
def test_versions_of_releases_are_understood(tmp_path, version):
    says = f"printf 'mkfs.erofs (erofs-utils) {version}\\navailable compressors: lz4\\n'"
    assert MkfsErofs.find(speaker(tmp_path, says)).version == version


@pytest.mark.parametrize(
    "says",
    [
        "echo mkfs.erofs: invalid option -- V >&2; echo mkfs.erofs 1.5 >&2; exit 1",
        "echo 'mkfs.erofs (erofs-utils) 1.8.6'; exit 1",
        "echo 'mkfs.erofs (erofs-utils) 1.8.6-g1a2b3c4d'",
        "echo 'mkfs.erofs (erofs-utils) 1.8.6.1.2'",
        "echo 'mkfs.erofs (erofs-utils)'",
        "echo 'mkfs.ext4 1.47.0'",
        "echo version 1.8.6; echo 'mkfs.erofs (erofs-utils) 1.8.6'",
        "printf 'mkfs.erofs (erofs-utils) 1.\\331\\243.4\\n'",
        "exit 0",
    ],
)
def test_other_answers_are_no_version(tmp_path, says):
    with pytest.raises(ProgramError, match="does not tell its version: a release"):
        MkfsErofs.find(speaker(tmp_path, says))


def test_the_program_is_found_in_path_or_not_at_all(tmp_path, monkeypatch):
    path = speaker(tmp_path, "echo 'mkfs.erofs (erofs-utils) 1.8.9'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert MkfsErofs.find() == MkfsErofs((str(path),), "1.8.9")
    monkeypatch.chdir(tmp_path)
    assert MkfsErofs.find(Path("mkfs.erofs")).command == (str(path),)
    monkeypatch.setattr(mkfs.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ProgramError, match="apt install erofs-utils"):
        MkfsErofs.find()
    with pytest.raises(ProgramError, match=r"cannot run .*nowhere"):
        MkfsErofs.find(tmp_path / "nowhere")


ALLOWED = [
    "-b4096",
    "-zlz4hc,level=12:zstd",
    "-Ededupe,fragments",
    "-T1",
    "-m4096:zstd",
    "--all-root",
    "--force-uid=0",
    "--MZ",
    "--MZ=i",
    "--ovlfs-strip=1",
    "--sort=path",
    "--sort=none",
]
REFUSED = shlex.split(
    """- -- image /dev/sda -U -Urandom -V -h -d9 -q --quiet -b -E --sort --sort=size --force-uid
    --force-uid= --force --all-root2 --version --help --tar --tar=i --oci=f --s3=x --offset=512
    --clean=0 --incremental --incremental=rvsp --exclude-path=a --exclude-regex=. --gzip --ungzip
    --ungzip=log --unxz=log --unlzma --gzinfo=x --vmdk-desc=x --file-contexts=x
    --compress-hints=x --mount-point=/ --blobdev=x --unheard-of"""
)


@pytest.mark.parametrize("option", ALLOWED)
def test_options_that_shape_the_image_are_allowed(option):
    check_options([option, "--workers=1"])


@pytest.mark.parametrize("option", ["", *REFUSED])
def test_all_other_options_are_refused(option, files, tmp_path):
    with pytest.raises(ParameterError, match="is not allowed here"):
        check_options(["-b4096", option])
    with pytest.raises(ParameterError, match="is not allowed here"):
        convert(MkfsErofs(("false",), "1.9.4"), files, tmp_path, options=[option])


def test_every_option_of_the_program_is_decided_on(twin):
    """Those that its help names; a new version may add one."""
    help_text = mkfs_twin.output_of(*twin.command, "--help")
    named = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", help_text, re.MULTILINE))
    known = {word.partition("=")[0] for word in REFUSED}
    undecided = [
        name
        for name in named - known
        if not any(mkfs._ALLOWED.fullmatch(word) for word in (name, f"{name}=1"))
    ]
    assert not undecided
    assert len(named) > 30


def test_no_mode_of_the_image_is_changed(real, files, tmp_path):
    before = os.fstat(files[1])
    convert(real, files, tmp_path)
    after = os.fstat(files[1])
    assert (after.st_ino, stat.S_IMODE(after.st_mode)) == (
        before.st_ino,
        stat.S_IMODE(before.st_mode),
    )
