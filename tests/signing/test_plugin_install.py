"""Plugins put in place and removed: whole or not at all, and only what says that it is one."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import write

from dmsign_fast.errors import DmsignError, FormatError, ParameterError, ProgramError, StorageError
from dmsign_fast.signing import plugin_install
from dmsign_fast.signing.plugin_host import find_plugin, list_plugins
from dmsign_fast.signing.plugin_install import install_plugin, uninstall_plugin

ANSWER = """\
#!/bin/sh
cat <<END
{"name": "test", "description": "d", "version": "VERSION", "url": "u",
 "supportedContractVersions": ["1.0"], "capabilities": ["SIGNATURE_GENERATOR.RAW"]}
END
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTATION_LIBEXEC", str(tmp_path / "libexec"))
    return tmp_path / "libexec/plugins"


@pytest.fixture
def source(tmp_path):
    """Makes the executable of a version."""

    def make(version="1.0.0", name="notation-test", mode=0o777):
        (tmp_path / "source").mkdir(exist_ok=True)
        path = write(tmp_path / "source" / name, ANSWER.replace("VERSION", version).encode())
        path.chmod(mode)
        return path

    return make


def contents(plugins):
    found = sorted(path for path in plugins.rglob("*") if path.is_file())
    return {str(path.relative_to(plugins)): path.stat().st_mode & 0o777 for path in found}


def test_an_executable(plugins, source):
    old, new = install_plugin(source())
    assert (old, new.name, new.version) == (None, "test", "1.0.0")
    assert contents(plugins) == {"test/notation-test": 0o755}
    assert find_plugin("test").metadata() == new
    assert uninstall_plugin("test") == plugins / "test"
    assert list(plugins.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "higher"),
    [
        ("1.0.0", "1.0.1", True),
        ("1.0.0", "1.0.0", False),
        ("1.10.0", "1.9.9", False),
        ("1.0.0-rc.2", "1.0.0-rc.10", True),
        ("1.0.0-rc.1", "1.0.0", True),
        ("1.0.0", "1.0.0-rc.1", False),
        ("1.0.0-1", "1.0.0-a", True),
        ("1.0.0-a", "1.0.0-a.1", True),
        ("1.0.0", "1.0.0+later", False),
    ],
)
def test_only_a_higher_version_unless_forced(old, new, higher, plugins, source):
    install_plugin(source(old))
    if higher:
        assert install_plugin(source(new))[0].version == old
    else:
        with pytest.raises(ParameterError, match=r"is installed, and .* is not higher.*--force"):
            install_plugin(source(new))
        assert find_plugin("test").metadata().version == old
        assert install_plugin(source(new), force=True)[0].version == old
    assert find_plugin("test").metadata().version == new
    assert list(plugins.iterdir()) == [plugins / "test"]


def test_what_is_installed_and_does_not_work(plugins, source):
    install_plugin(source())
    write(plugins / "test/notation-test", b"garbage")
    with pytest.raises(ProgramError, match=r"cannot run the plugin test.*give --force"):
        install_plugin(source("2.0.0"))
    assert install_plugin(source("1.0.0"), force=True)[0] is None
    install_plugin(source("later"), force=True)
    with pytest.raises(FormatError, match=r"the version 'later' is not a semantic one.*--force"):
        install_plugin(source("2.0.0"))


def test_a_directory(plugins, source):
    directory = source(mode=0o644).parent  # made executable, if it is the only one
    write(directory / "LICENSE", b"free").chmod(0o666)
    (directory / "link").symlink_to("LICENSE")
    (directory / "more").mkdir()
    write(directory / "more/notation-other", b"")
    install_plugin(directory)
    assert contents(plugins) == {"test/LICENSE": 0o644, "test/notation-test": 0o744}


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive(kind, plugins, source, tmp_path):
    path = source()
    archive = tmp_path / f"notation-test_1.0.0_linux_amd64.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.write(path, "notation-test")
            for name in ("more/notation-other", "../escaped"):
                file.writestr(name, b"x")
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(path, "./notation-test")
            for name in ("more/notation-other", "../escaped", "/tmp/escaped"):
                info = tarfile.TarInfo(name)
                info.size = 1
                file.addfile(info, io.BytesIO(b"x"))
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            file.addfile(info)
    install_plugin(archive)
    assert contents(plugins) == {"test/notation-test": 0o755}
    assert not list(tmp_path.rglob("escaped"))
    data = archive.read_bytes()
    for damaged in (data[: len(data) // 2], b"text", data[:60] + bytes(20) + data[80:]):
        archive.write_bytes(damaged)
        with pytest.raises(DmsignError, match=str(archive)):
            install_plugin(archive, force=True)
    assert contents(plugins) == {"test/notation-test": 0o755}
    assert list(plugins.iterdir()) == [plugins / "test"]


def test_what_is_no_plugin(plugins, source, tmp_path):
    cases = [
        (source(name="test"), FormatError, "no executable file named notation-NAME"),
        (source(name="notation-"), FormatError, "no executable file"),
        (source(name="notation-other"), ProgramError, "says that it is the plugin 'test'"),
        (tmp_path / "nothing", StorageError, "cannot install .*nothing: No such file"),
        (source(name="notation-test").parent, FormatError, "more than one executable"),
    ]
    for path, error, words in cases:
        with pytest.raises(error, match=words):
            install_plugin(path)
    dead = write(tmp_path / "notation-dead", b"#!/bin/sh\nexit 1\n")
    dead.chmod(0o755)
    with pytest.raises(ProgramError, match="failed at get-plugin-metadata"):
        install_plugin(dead)
    assert list(plugins.iterdir()) == []
    for name in ("test", "..", "../plugins", "", "."):
        with pytest.raises(ParameterError, match="no plugin"):
            uninstall_plugin(name)


def test_what_is_too_large(plugins, source, monkeypatch):
    monkeypatch.setattr(plugin_install, "_LARGEST", 1000)
    path = source()
    write(path.parent / "data", bytes(1000))
    with pytest.raises(FormatError, match="has more than"):
        install_plugin(path.parent)
    assert list(plugins.iterdir()) == []


def test_what_was_there_stays_if_it_cannot_be_replaced(plugins, source, monkeypatch):
    install_plugin(source())
    before = contents(plugins)
    rename = Path.rename

    def refuse(path, target):
        if path.name.startswith(".installing"):
            raise OSError(30, "Read-only file system")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*test: Read-only"):
        install_plugin(source(), force=True)
    assert contents(plugins) == before
    assert [path.name for path in plugins.iterdir()] == ["test"]


def test_names_of_installed_plugins_leave_out_what_is_being_installed(plugins, source):
    install_plugin(source())
    (plugins / ".installing-x").mkdir()
    assert list_plugins() == ("test",)
