"""docs/ci.md and action.yml: their YAML is right, and their steps do what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import DMSIGN, program
from images import push_image
from moto.sts.responses import TokenResponse
from pages import blocks_of
from pki import make_intermediate, make_leaf, make_root
from registry_server import RegistryServer

from dmsign_fast.oci.credentials import Credentials
from dmsign_fast.oci.registry import Registry

HOME = Path(__file__).parent.parent
ACTION = yaml.safe_load((HOME / "action.yml").read_text())
DOCUMENTS = [
    document
    for block in blocks_of("docs/ci.md")
    if block.language == "yaml"
    for document in yaml.safe_load_all(block.text)
]
WORKFLOW, KMS_STEPS, GITLAB, *TASKS = DOCUMENTS
OURS = "example/dmsign-fast@"


def steps_of_github():
    """Each step of the page with the ids of those before it, and the job that has it."""
    for name, job in (*WORKFLOW["jobs"].items(), ("sign", KMS_STEPS)):
        ids = {"push"} if job is KMS_STEPS else set()
        for step in job["steps"]:
            yield name, step, set(ids)
            ids |= {step.get("id", "")}


# the files


def test_the_steps_of_github():
    for name, step, ids in steps_of_github():
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"uses", "run", "id", "with", "name", "env", "if"}
        for expression in re.findall(r"\$\{\{ (.*?) \}\}", json.dumps(step)):
            context, _, path = expression.partition(".")
            if context == "steps":
                assert path.split(".")[0] in ids
            elif context == "needs":
                job, _, output = path.split(".")
                assert job in WORKFLOW["jobs"][name]["needs"]
                assert output in WORKFLOW["jobs"][job]["outputs"]
            else:
                assert context in ("github", "secrets", "vars")


def test_only_the_job_that_signs_may_ask_for_a_token():
    allowed = {name for name, job in WORKFLOW["jobs"].items() if "id-token" in job["permissions"]}
    assert allowed == {"sign"}
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_the_inputs_of_the_action():
    used = [step["with"] for _, step, _ in steps_of_github() if OURS in step.get("uses", "")]
    assert len(used) == 3
    required = {name for name, said in ACTION["inputs"].items() if said.get("required")}
    for inputs in used:
        assert required <= inputs.keys() <= ACTION["inputs"].keys()
        assert "@${{" in inputs["image"]  # by digest
    page = (HOME / "docs/ci.md").read_text()
    table = re.search(r"\| input \| \|\n(.*?)\n\n", page, re.DOTALL)[1]
    assert {*re.findall(r"`([a-z]+)`(?=[, |].*\|)", table)} >= ACTION["inputs"].keys()


def test_no_input_becomes_shell():
    """What a stranger can name, such as a branch, reaches a script as the value of a variable."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        for name, value in step["env"].items():
            assert value == f"${{{{ inputs.{name.removeprefix('INPUT_').lower()} }}}}"
    scripts = "\n".join(step["run"] for step in ACTION["runs"]["steps"])
    assert {name.upper() for name in ACTION["inputs"]} == {
        *re.findall(r"\$\{?!?INPUT_([A-Z]+)", scripts),
        *re.search("for name in ([A-Z ]+);", scripts)[1].split(),
    }


def test_gitlab():
    jobs = {name: job for name, job in GITLAB.items() if name != "stages"}
    assert [job["stage"] for job in jobs.values()] == GITLAB["stages"]
    assert all(job["image"] and job["script"] for job in jobs.values())
    assert [name for name, job in jobs.items() if "id_tokens" in job] == ["sign"]


def test_tekton():
    assert [task["metadata"]["name"] for task in TASKS] == ["sign", "verify"]
    for task in TASKS:
        assert (task["apiVersion"], task["kind"]) == ("tekton.dev/v1", "Task")
        known = {f"params.{one['name']}" for one in task["spec"]["params"]}
        known |= {f"workspaces.{one['name']}.path" for one in task["spec"]["workspaces"]}
        for step in task["spec"]["steps"]:
            assert step["image"]
            assert set(re.findall(r"\$\(([^)]*)\)", json.dumps(step))) == known
            assert "$(" not in step["script"]


# what they do


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with the repository's certificates, a tool on PATH, and nothing of this user."""
    leaf = make_leaf(make_intermediate(make_root()))
    leaf.write(tmp_path)
    tool = tmp_path / "runner/dmsign-fast/bin/dmsign-fast"
    tool.parent.mkdir(parents=True)
    code = DMSIGN[2].replace("'", '"')
    tool.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    tool.chmod(0o755)
    (tmp_path / "deploy").write_text('#!/bin/sh\necho "deployed $1"\n')
    (tmp_path / "deploy").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for name in ("NOTATION_CONFIG", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path / "runner"))
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    return tmp_path, leaf


@pytest.fixture
def image():
    """The image that the pipeline has pushed, by digest, in a registry with a login."""
    with RegistryServer(login="basic") as server:
        server.repository("app")
        with Registry(f"{server.host}/app", credentials=Credentials("alice", "secret")) as store:
            yield server, f"{server.host}/app@{push_image(store).descriptor.digest}"


def shell(script, **environment):
    """As GitHub calls ``shell: bash``."""
    return subprocess.run(
        [program("bash"), "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        check=False,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def log_in(server):
    login = f"printf secret | dmsign-fast login {server.host} --username alice --password-stdin"
    done = shell(login)
    assert done.returncode == 0, done.stderr


def act(step, **inputs):
    """Run a step of the action; how it ended, and the report that it names."""
    given = {name: said.get("default", "") for name, said in ACTION["inputs"].items()} | inputs
    wanted = [name.removeprefix("INPUT_").lower() for name in step["env"]]
    output = Path("output")
    output.write_text("")
    environment = {f"INPUT_{name.upper()}": given[name] for name in wanted}
    done = shell(step["run"], GITHUB_OUTPUT=str(output.absolute()), **environment)
    report = re.search("^report=(.*)$", output.read_text(), re.MULTILINE)
    return done, report and Path(report[1]).read_text()


INSTALL, RUN = ACTION["runs"]["steps"]


def test_the_action_signs_and_verifies(place, image):
    server, reference = image
    log_in(server)
    signing = {"image": reference, "key": "key.pem", "cert": "chain.pem"}
    done, report = act(RUN, **signing, recipe="containerd@1.8.6", options="--expiry\n30d\n")
    assert done.returncode == 0, done.stderr
    (signed,) = json.loads(report)["images"]
    assert reference.endswith(signed["manifest"])
    assert done.stdout == report
    done, report = act(RUN, command="verify", image=reference, trust="root.pem")
    assert done.returncode == 0, done.stderr
    assert json.loads(report)["verified"] is True
    recipes = [one["recipe"] for one in json.loads(report)["images"][0]["referrers"]]
    assert "1.8.6" in json.dumps(recipes)


def test_the_action_fails_where_nothing_is_signed(place, image):
    server, reference = image
    log_in(server)
    done, report = act(RUN, command="verify", image=reference, trust="root.pem")
    assert done.returncode == 7
    assert json.loads(report)["verified"] is False


def test_words_of_inputs_stay_words(place, image):
    server, reference = image
    log_in(server)
    strange = f"{reference} ; touch harmed"
    done, _ = act(RUN, image=strange, key="$(touch harmed)", cert="chain.pem")
    assert done.returncode != 0
    done, _ = act(RUN, command="verify; touch harmed", image=reference)
    assert done.returncode == 2
    assert r"::error::command is verify\;\ touch\ harmed" in done.stdout
    assert not Path("harmed").exists()


@pytest.mark.parametrize("word", ["--help", "--no-dm-verity", "-h", "--trust=root.pem"])
def test_no_image_is_an_option(word, place):
    """Help would end well, as if the image were verified."""
    done, _ = act(RUN, command="verify", image=word, trust="root.pem")
    assert done.returncode == 2
    assert f"{word!r} does not name a registry" in done.stderr
    done, _ = act(RUN, image="registry.example/app:1", key="--help", cert="chain.pem")
    assert done.returncode == 4
    assert "cannot read --help" in done.stderr
    for task in TASKS:
        (step,) = task["spec"]["steps"]
        done = shell(step["script"], IMAGE=word)
        assert done.returncode in (2, 5), done.stdout  # there is no vault here


def test_an_input_is_one_line_of_the_log(place):
    """Lines that begin with :: are commands to the runner."""
    done, _ = act(RUN, command="x\n::add-path::/harm", image="app")
    assert [line for line in done.stdout.splitlines() if "::" in line] == [
        "::error::command is $'x\\n::add-path::/harm': give sign or verify"
    ]


def test_the_action_installs_this_version(place, monkeypatch):
    """For real, but for the packages that it would fetch, which are those of the tests."""
    directory, _ = place
    shutil.rmtree(directory / "runner/dmsign-fast")
    checkout = directory / "checkout"
    built = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    for name in ("src", "csrc"):
        shutil.copytree(HOME / name, checkout / name, ignore=built)
    for path in HOME.iterdir():
        if path.is_file():
            shutil.copy(path, checkout)
    ours = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which pip reads as that there is none
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CFLAGS": "-O0",
    }
    done = shell(
        INSTALL["run"],
        INPUT_EXTRAS="",
        GITHUB_ACTION_PATH=str(checkout),
        **ours,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tool = directory / "runner/dmsign-fast/bin/dmsign-fast"
    where = "import dmsign_fast; print(dmsign_fast.__file__)"
    made = shell(f"{tool} --version && {tool.parent}/python3 -c '{where}'", **ours)
    assert made.returncode == 0, made.stderr
    assert str(directory / "runner") in made.stdout


def script_of(job):
    return "\n".join(line for line in job["script"] if not line.startswith("pip install"))


def test_gitlab_signs_with_a_key_in_kms_by_oidc(place, image, monkeypatch):
    from signing.kms_server import REGION, kms

    directory, leaf = place
    server, reference = image
    repository, _, digest = reference.partition("@")
    job = {
        "CI_REGISTRY": server.host,
        "CI_REGISTRY_USER": "alice",
        "CI_REGISTRY_PASSWORD": "secret",
        "CI_REGISTRY_IMAGE": repository,
        "DIGEST": digest,
        "ID_TOKEN": "a-token-of-gitlab",
    }
    shown = []
    assume = TokenResponse.assume_role_with_web_identity

    def noted(self):
        shown.append(self._get_param("WebIdentityToken"))
        return assume(self)

    monkeypatch.setattr(TokenResponse, "assume_role_with_web_identity", noted)
    with kms(monkeypatch, directory) as cloud:
        key = cloud.put(leaf)
        cloud.admin.create_alias(AliasName="alias/release", TargetKeyId=key.rpartition("/")[2])
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name)
        variables = GITLAB["sign"]["variables"] | {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(directory / "id-token"),
            "AWS_ENDPOINT_URL_STS": cloud.url,
        }
        assert f"//{REGION}/alias/release" in script_of(GITLAB["sign"])
        done = shell(script_of(GITLAB["sign"]), **job, **variables)
        assert done.returncode == 0, done.stderr
    assert shown
    assert set(shown) == {"a-token-of-gitlab"}
    done = shell(script_of(GITLAB["deploy"]), **job)
    assert done.returncode == 0, done.stderr
    assert f"deployed {reference}" in done.stdout


def test_gitlab_deploys_nothing_that_is_not_signed(place, image):
    server, reference = image
    repository, _, digest = reference.partition("@")
    done = shell(
        script_of(GITLAB["deploy"]),
        CI_REGISTRY=server.host,
        CI_REGISTRY_USER="alice",
        CI_REGISTRY_PASSWORD="secret",
        CI_REGISTRY_IMAGE=repository,
        DIGEST=digest,
    )
    assert done.returncode == 7
    assert "deployed" not in done.stdout


def test_tekton_signs_with_a_key_in_a_vault_by_workload_identity(place, image, monkeypatch):
    from signing.vault_server import ID_TOKEN, vault

    directory, leaf = place
    server, reference = image
    log_in(server)
    (directory / "tls").mkdir()
    with vault(monkeypatch, directory / "tls") as cloud:
        cloud.put("release", leaf)
        cloud.allowed.add("keys/get")
        monkeypatch.delenv("AZURE_CLIENT_SECRET")
        (directory / "token").write_text(ID_TOKEN)
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(directory / "token"))
        for task in TASKS:
            (step,) = task["spec"]["steps"]
            script = step["script"].replace("//VAULT/", f"//{cloud.host}/")
            done = shell(script, IMAGE=reference)
            assert done.returncode == 0, done.stderr
    assert "keys/sign" in cloud.asked
