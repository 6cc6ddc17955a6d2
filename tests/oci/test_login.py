"""Logins that are kept: in docker's and podman's files, and by helpers."""

import json
import stat
import sys

import pytest
from helpers import dmsign, run
from images import push_image
from registry_server import RegistryServer
from terminal import at_a_terminal

from dmsign_fast import Registry
from dmsign_fast.errors import FormatError
from dmsign_fast.oci.credentials import (
    Credentials,
    find_credentials,
    remove_logins,
    save_login,
)

ALICE = Credentials("alice", "secret")
NAMES = ("NOTATION_USERNAME", "NOTATION_PASSWORD", "REGISTRY_AUTH_FILE", "DOCKER_AUTH_CONFIG")
# what docker-credential-helpers specifies: one program, three actions, a file as the store
HELPER = f"""#!{sys.executable}
import json, os, sys
store = os.environ["HOME"] + "/store.json"
known = json.load(open(store)) if os.path.exists(store) else {{}}
action, sent = sys.argv[1], sys.stdin.read()
if action == "store":
    login = json.loads(sent)
    known[login["ServerURL"]] = login
elif action == "erase":
    known.pop(sent)
elif sent in known:
    print(json.dumps(known[sent]))
else:
    print("credentials not found in native keychain")
    sys.exit(1)
json.dump(known, open(store, "w"))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without logins, for this process and for programs."""
    for name in (*NAMES, "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture
def helper(home, monkeypatch):
    path = home / "bin" / "docker-credential-kept"
    path.parent.mkdir()
    path.write_text(HELPER)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    return "docker-credential-kept"


def login(server, *options, password="secret", user="alice"):
    words = ("--username", user, "--password-stdin", *options)
    return dmsign("login", server.host, *words, input=f"{password}\n".encode())


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_a_login_that_the_registry_takes_is_kept_and_used(home, kind):
    with RegistryServer(login=kind) as server:
        done = login(server)
        assert done.exit_code == 0, done.err
        file = home / ".docker" / "config.json"
        assert str(file) in done.out
        assert find_credentials(server.host, "app") == ALICE
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert server.complaints == []
        done = dmsign("logout", server.host, "--output", "json")
        assert json.loads(done.out)["removed_from"] == [str(file)]
        assert find_credentials(server.host, "app") is None
        assert "no login" in dmsign("logout", server.host).out


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_a_login_that_the_registry_refuses_is_not_kept(home, kind):
    with RegistryServer(login=kind) as server:
        done = login(server, password="wrong")
        assert done.exit_code == 6, done.err
        assert "wrong" not in done.err + done.out
        assert not (home / ".docker").exists()


def test_a_registry_without_logins_cannot_check_them(home):
    with RegistryServer() as server:
        done = login(server)
        assert done.exit_code == 0
        assert "were not checked" in done.err
        assert json.loads(login(server, "--output", "json").out)["checked"] is False


@pytest.mark.parametrize("name", ["registry/app", "user@registry", "http://registry", "a b", ""])
def test_what_is_no_registry(home, name):
    assert dmsign("login", name, "-u", "alice", "--password-stdin", input=b"x\n").exit_code == 2
    assert dmsign("logout", name).exit_code == 2


def test_what_stands_nowhere_on_the_command_line(home):
    with RegistryServer(login="basic") as server:
        done = dmsign("login", server.host, "--username", "alice", "--password", "secret")
        assert done.exit_code == 2
        assert "secret" not in done.err
        assert dmsign("login", server.host, "--username", "alice").exit_code == 2
        assert dmsign("login", server.host).exit_code == 2
        assert login(server, user="a:b").exit_code == 2
        assert server.requests == []


@pytest.mark.parametrize(("typed", "status"), [(b"secret\n", 0), (b"\x04", 2), (b"\n", 2)])
def test_the_password_is_asked_for_at_a_terminal_and_not_shown(home, typed, status):
    with RegistryServer(login="basic") as server:
        words = ("login", server.host, "--username", "alice")
        found, shown = at_a_terminal(words, "Password of alice: ", typed)
        assert found == status, shown
        assert "secret" not in shown
        assert find_credentials(server.host, "app") == (None if status else ALICE)


def test_another_file(home, monkeypatch):
    with RegistryServer(login="basic") as server:
        assert login(server, "--authfile", home / "auth.json").exit_code == 0
        assert find_credentials(server.host, "app") is None
        with Registry(f"{server.host}/app", credentials=ALICE) as store:
            push_image(store, "v1")
        listed = ("list", f"{server.host}/app:v1")
        assert dmsign(*listed).exit_code == 6
        assert dmsign(*listed, "--authfile", home / "auth.json").exit_code == 0
        done = dmsign(*listed, "--authfile", home / "missing.json")
        assert done.exit_code == 4
        assert "no such file" in done.err
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "auth.json"))
        assert find_credentials(server.host, "app") == ALICE
        assert dmsign("logout", server.host).exit_code == 0
        assert find_credentials(server.host, "app") is None


def test_all_else_in_the_file_stays(home):
    file = home / ".docker" / "config.json"
    file.parent.mkdir()
    other = {"auth": "Ym9iOnB3"}
    before = {"auths": {"other": other, "https://r.example/v2/": other}, "psFormat": "table"}
    file.write_text(json.dumps(before))
    file.chmod(0o644)
    save_login("r.example", ALICE)
    after = json.loads(file.read_text())
    assert after["auths"].pop("r.example")["auth"]
    assert after == {"auths": {"other": other}, "psFormat": "table"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert find_credentials("r.example", "team/app") == ALICE


def test_a_link_stays_a_link(home):
    (home / "kept").mkdir()
    (home / "kept" / "real.json").write_text("{}")
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").symlink_to(home / "kept" / "real.json")
    save_login("r.example", ALICE)
    assert (home / ".docker" / "config.json").is_symlink()
    assert find_credentials("r.example", "app") == ALICE


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": [1]}'])
def test_a_file_that_is_not_understood_is_left_alone(home, text):
    file = home / "auth.json"
    file.write_text(text)
    for change in (lambda: save_login("r", ALICE, file), lambda: remove_logins("r", file)):
        with pytest.raises(FormatError, match="is not a JSON file of logins"):
            change()
    assert file.read_text() == text


def test_logout_leaves_no_file_with_the_login(home):
    for name in (".docker/config.json", "run/containers/auth.json", ".config/containers/auth.json"):
        save_login("r.example", ALICE, home / name)
    save_login("other.example", ALICE)
    assert len(remove_logins("r.example")) == 3
    assert find_credentials("r.example", "app") is None
    assert find_credentials("other.example", "app") == ALICE
    assert remove_logins("r.example") == []


@pytest.mark.parametrize(
    "config", [{"credsStore": "kept"}, {"credHelpers": {"https://r.example": "kept"}}]
)
def test_a_helper_keeps_the_login_instead_of_the_file(home, helper, config):
    file = home / ".docker" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(config))
    assert save_login("r.example", ALICE) == helper
    assert "secret" not in file.read_text()
    assert json.loads(file.read_text()) == config | {"auths": {"r.example": {}}}
    assert find_credentials("r.example", "app") == ALICE
    assert remove_logins("r.example") == [helper]
    assert find_credentials("r.example", "app") is None
    assert json.loads((home / "store.json").read_text()) == {}


@pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "https://index.docker.io/v1/"])
def test_the_helper_for_docker_hub(home, helper, name):
    file = home / "auth.json"
    file.write_text(json.dumps({"credHelpers": {name: "kept"}}))
    assert save_login("docker.io", ALICE, file) == helper
    assert "https://index.docker.io/v1/" in (home / "store.json").read_text()
    assert remove_logins("docker.io", file) == [helper]


def test_logout_names_the_helper_and_the_file_that_both_had_it(home, helper):
    file = home / "auth.json"
    save_login("r.example", ALICE, file)
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"credsStore": "kept"}))
    login = {"ServerURL": "r.example", "Username": "alice", "Secret": "secret"}
    (home / "store.json").write_text(json.dumps({"r.example": login}))
    assert remove_logins("r.example", file) == [helper, file]
    assert json.loads(file.read_text())["auths"] == {}


def test_docker_hub_by_its_own_name(home):
    save_login("docker.io", ALICE)
    config = json.loads((home / ".docker" / "config.json").read_text())
    assert list(config["auths"]) == ["https://index.docker.io/v1/"]
    assert find_credentials("docker.io", "library/debian") == ALICE
    assert len(remove_logins("registry-1.docker.io")) == 1
    assert find_credentials("docker.io", "library/debian") is None


def test_writers_at_once_lose_nothing(home):
    file = home / "auth.json"
    code = (
        "import sys; from pathlib import Path; from dmsign_fast.oci.credentials import *\n"
        "for n in range(8): save_login(f'r{sys.argv[1]}-{n}', Credentials('a', 'b'), "
        "Path(sys.argv[2]))"
    )
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(lambda one: run(sys.executable, "-c", code, one, file), range(3)))
    assert [one.exit_code for one in ended] == [0, 0, 0], ended
    assert len(json.loads(file.read_text())["auths"]) == 24
