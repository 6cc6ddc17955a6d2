import base64
import json
import os
import sys

import pytest

from dmsign_fast.errors import FormatError, ProgramError, RegistryError, StorageError
from dmsign_fast.oci.credentials import Credentials, find_credentials
from dmsign_fast.processes import withhold

ALICE = {"auth": base64.b64encode(b"alice:se:cret").decode()}
LOGIN = Credentials("alice", "se:cret")


@pytest.fixture
def home(tmp_path):
    """Environment of an empty home; ``write`` puts a file of logins into it."""

    class Home:
        def __init__(self):
            path = f"{tmp_path}/bin:{os.environ['PATH']}"
            self.environment = {"HOME": str(tmp_path), "PATH": path}

        def write(self, name, config):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(config if isinstance(config, str) else json.dumps(config))
            return path

        def helper(self, name, script):
            path = self.write(f"bin/docker-credential-{name}", f"#!{sys.executable}\n{script}")
            path.chmod(0o755)

        def find(self, registry="example.com", repository="app/web", **more):
            return find_credentials(registry, repository, self.environment | more)

    return Home()


def test_without_files_there_is_no_login(home):
    assert home.find() is None


@pytest.mark.parametrize(
    ("name", "more"),
    [
        (".docker/config.json", {}),
        ("elsewhere/config.json", {"DOCKER_CONFIG": "elsewhere"}),
        ("run/containers/auth.json", {"XDG_RUNTIME_DIR": "run"}),
        (".config/containers/auth.json", {}),
        ("config/containers/auth.json", {"XDG_CONFIG_HOME": "config"}),
        ("named.json", {"REGISTRY_AUTH_FILE": "named.json"}),
    ],
)
def test_every_place_is_looked_at(home, tmp_path, name, more):
    home.write(name, {"auths": {"example.com": ALICE}})
    assert home.find(**{key: str(tmp_path / value) for key, value in more.items()}) == LOGIN


def test_docker_comes_before_podman_and_a_named_file_is_the_only_one(home, tmp_path):
    home.write(".docker/config.json", {"auths": {"example.com": ALICE}})
    podman = {"auths": {"example.com": {"username": "bob", "password": "p"}, "b.c": ALICE}}
    home.write("run/containers/auth.json", podman)
    run = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert home.find(**run) == LOGIN
    assert home.find("b.c", **run) == LOGIN
    named = home.write("named.json", {})
    assert home.find(REGISTRY_AUTH_FILE=str(named), **run) is None
    with pytest.raises(StorageError, match="REGISTRY_AUTH_FILE"):
        home.find(REGISTRY_AUTH_FILE=str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("key", "registry", "found"),
    [
        ("https://example.com", "example.com", True),
        ("https://example.com/v2/", "example.com", True),
        ("example.com/app/web", "example.com", True),
        ("example.com/app", "example.com", True),
        ("example.com/ap", "example.com", False),
        ("example.com/app/web/x", "example.com", False),
        ("example.com:5000", "example.com", False),
        ("example.com", "example.com:5000", False),
        ("evil.example.com", "example.com", False),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("docker.io", "registry-1.docker.io", True),
    ],
)
def test_a_login_is_that_of_the_registry(home, key, registry, found):
    home.write(".docker/config.json", {"auths": {key: ALICE}})
    assert home.find(registry) == (LOGIN if found else None)


def test_the_longest_path_counts(home):
    bob = {"username": "bob", "password": "p"}
    home.write(".docker/config.json", {"auths": {"example.com": bob, "example.com/app": ALICE}})
    assert home.find() == LOGIN
    assert home.find(repository="other").username == "bob"


def test_tokens_of_the_file(home):
    entry = {"auth": base64.b64encode(b"alice:").decode(), "identitytoken": "i"}
    home.write(
        ".docker/config.json", {"auths": {"example.com": entry, "b": {"registrytoken": "r"}}}
    )
    assert home.find() == Credentials("alice", identity_token="i")
    assert home.find("b") == Credentials(registry_token="r")


def test_secrets_do_not_show():
    shown = repr(Credentials("alice", "SECRET1", "SECRET2", "SECRET3"))
    assert "SECRET" not in shown
    assert "alice" in shown


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        {"auths": ["x"]},
        {"credHelpers": "x"},
        {"auths": {"example.com": "alice"}},
        {"auths": {"example.com": {"auth": 1}}},
        {"auths": {"example.com": {"auth": "SECRET!"}}},
        {"auths": {"example.com": {"auth": base64.b64encode(b"SECRET").decode()}}},
        {"credsStore": "../../bin/SECRET"},
        {"credsStore": 7},
    ],
    ids=str,
)
def test_a_malformed_file_is_named_without_its_secrets(home, config):
    path = home.write(".docker/config.json", config)
    with pytest.raises(FormatError, match=str(path)) as caught:
        home.find()
    assert "SECRET!" not in str(caught.value)


ANSWER = """
import json, sys
server = sys.stdin.read()
assert sys.argv[1:] == ["get"]
print(json.dumps({"ServerURL": server, "Username": "alice", "Secret": "at " + server}))
"""


def test_a_helper_is_asked_for_the_registry(home):
    home.helper("test", ANSWER)
    home.write(".docker/config.json", {"credHelpers": {"example.com": "test"}})
    assert home.find() == Credentials("alice", "at example.com")
    assert home.find("other.com") is None


def test_a_store_is_asked_for_all_and_docker_hub_by_its_old_name(home):
    home.helper("test", ANSWER)
    home.helper("own", ANSWER.replace("at ", "own "))
    config = {"credsStore": "test", "credHelpers": {"b.c": "own"}, "auths": {"example.com": {}}}
    home.write(".docker/config.json", config)
    assert home.find().password == "at example.com"
    assert home.find("b.c").password == "own b.c"
    assert home.find("docker.io").password == "at https://index.docker.io/v1/"


def test_an_identity_token_of_a_helper(home):
    home.helper("test", ANSWER.replace("alice", "<token>"))
    home.write(".docker/config.json", {"credsStore": "test"})
    assert home.find() == Credentials(identity_token="at example.com")


def test_a_helper_without_the_login_leaves_it_to_the_file(home):
    script = "print('credentials not found in native keychain'); raise SystemExit(1)"
    home.helper("test", script)
    home.write(".docker/config.json", {"credsStore": "test"})
    assert home.find() is None
    home.write(".docker/config.json", {"credsStore": "test", "auths": {"example.com": ALICE}})
    assert home.find() == LOGIN


@pytest.mark.parametrize(
    ("script", "error", "why"),
    [
        ("print('the vault is locked'); raise SystemExit(3)", RegistryError, "vault is locked"),
        ("print('SECRET')", FormatError, "did not print a login"),
        ("print('[\"SECRET\"]')", FormatError, "did not print a login"),
        ('print(\'{"Username": 1, "Secret": "SECRET"}\')', FormatError, "did not print"),
        (None, ProgramError, "cannot run docker-credential-test"),
    ],
)
def test_a_helper_that_fails_is_named(home, script, error, why):
    if script:
        home.helper("test", script)
    home.write(".docker/config.json", {"credsStore": "test"})
    with pytest.raises(error, match=why) as caught:
        home.find()
    assert "SECRET" not in str(caught.value)
    assert "docker-credential-test" in str(caught.value)


def test_a_helper_that_hangs_is_ended(home, monkeypatch):
    monkeypatch.setattr("dmsign_fast.oci.credentials._HELPER_SECONDS", 0.2)
    home.helper("test", "import time; time.sleep(600)")
    home.write(".docker/config.json", {"credsStore": "test"})
    with pytest.raises(ProgramError, match=r"did not end within 0\.2 s"):
        home.find()


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://example.com", "example.com"),
        ("http://example.com/", "example.com"),
        ("https://example.com/v2/", "example.com"),
        ("example.com/app", "example.com"),
        ("example.com", "example.com"),
    ],
)
def test_a_helper_has_a_key_as_docker_or_podman_writes_it(home, key, registry):
    home.helper("test", ANSWER)
    home.write(".docker/config.json", {"credHelpers": {key: "test"}})
    assert home.find(registry).username == "alice"


def test_a_helper_for_another_path_is_not_asked(home):
    home.helper("test", ANSWER)
    home.write(".docker/config.json", {"credHelpers": {"example.com/other": "test"}})
    assert home.find() is None


def test_a_missing_helper_is_named_with_the_file_that_asks_for_it(home):
    path = home.write(".docker/config.json", {"credsStore": "desktop.exe"})
    with pytest.raises(ProgramError) as error:
        home.find()
    assert "docker-credential-desktop.exe" in str(error.value)
    assert f"{path} asks it for the login to example.com" in str(error.value)


def test_logins_in_the_environment(home, tmp_path):
    text = json.dumps({"auths": {"example.com": ALICE}})
    home.write(".docker/config.json", {"auths": {"example.com": {"auth": "Ym9iOm9sZA=="}}})
    assert home.find(DOCKER_AUTH_CONFIG=text) == LOGIN
    assert home.find("docker.io", DOCKER_AUTH_CONFIG=text) is None
    assert home.find(DOCKER_AUTH_CONFIG=json.dumps({})).username == "bob"
    named = home.write("named.json", {})
    assert home.find(DOCKER_AUTH_CONFIG=text, REGISTRY_AUTH_FILE=str(named)) is None
    with pytest.raises(FormatError, match=r"\$DOCKER_AUTH_CONFIG is not a JSON file"):
        home.find(DOCKER_AUTH_CONFIG="[")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"auths": 1' + "0" * 5000 + "}"])
def test_a_file_of_odd_json(home, text):
    home.write(".docker/config.json", text)
    with pytest.raises(FormatError, match="not a JSON file of logins"):
        home.find()


def test_a_helper_does_not_see_other_logins(home, monkeypatch):
    home.helper(
        "test",
        "import json, os; print(json.dumps({'Username': ' '.join(os.environ), 'Secret': 'x'}))",
    )
    home.write(".docker/config.json", {"credsStore": "test"})
    monkeypatch.setattr("dmsign_fast.processes._withheld", {"NOTATION_PASSWORD"})
    withhold("PASSPHRASE")
    seen = home.find(NOTATION_PASSWORD="p", PASSPHRASE="q", OTHER="r").username.split()
    assert "OTHER" in seen
    assert not {"NOTATION_PASSWORD", "PASSPHRASE"} & set(seen)
