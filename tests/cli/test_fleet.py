"""``dmsign-fast fleet``: as a user calls it."""

import csv
import io
import json
import re
import signal
import subprocess
import threading
import time

import pytest
from browser import dom_of, needs_browser
from container_images import push_image, push_index, tars
from helpers import DMSIGN, cli, dmsign
from pki import make_intermediate, make_leaf, make_root
from registry_server import RegistryServer

from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.registry import Registry


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    leaf = make_leaf(make_intermediate(make_root("Fleet")))
    return leaf.write(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def images(tmp_path):
    layout = Layout.create(tmp_path / "layout")
    contents = tars(4)
    made = [push_image(layout, f"v{n}", contents[n : n + 2]) for n in range(3)]
    push_index(layout, "all", [(made[0], "linux/amd64"), (made[1], "linux/arm64")])
    layout.close()
    listed = tmp_path / "images.txt"
    lines = ["# the images", "", *(f"{tmp_path}/layout:v{n}" for n in range(3))]
    listed.write_text("\n".join(lines) + "\n")
    return listed


@pytest.fixture
def fleet(tmp_path, files, images):
    def call(command, *arguments, state="run.state"):
        key = ("--key", files.key, "--cert", files.chain)
        signing = key if command in ("sign", "plan") else ("--trust", files.root)
        return cli(
            *("fleet", command, "--oci-layout", "--state", tmp_path / state),
            *(signing + arguments),
        )

    return call


def test_plan_sign_status_report_verify(fleet, images, tmp_path):
    planned = json.loads(fleet("plan", "--from", images, "--output", "json").out)
    assert (planned["images"], planned["layers"]["to_read"]) == (3, 6)
    assert not (tmp_path / "run.state").exists()

    done = fleet("sign", "--from", images)
    assert done.exit_code == 0, done.err
    assert done.out.startswith("images: 3 signed, 0 signed before, 0 failed; different layers: 6")

    state = tmp_path / "run.state"
    status = cli("fleet", "status", state)
    assert "finished" in status.field("run")
    assert status.field("layers") == "6 of 6 hashed, 0 failed"

    verified = fleet("verify", "--from", images, "--deep", state="verify.state")
    assert (verified.exit_code, verified.out) == (0, "images: 3 verified, 0 not\n")

    again = fleet("sign", "--from", images, "--output", "json")
    assert json.loads(again.out)["images"]["signed before"] == 3

    planned = json.loads(fleet("plan", "--from", images, "--output", "json").out)
    assert (planned["images"], planned["signed_before"]) == (0, 3)


def test_a_cluster_of_this_machine_starts_beside_the_plan(fleet, images):
    done = fleet("sign", "--from", images, "--workers", "1", "--verbose")
    assert done.exit_code == 0, done.err
    assert "hashing by 1 Dask worker(s) of tls://127.0.0.1" in done.err
    assert done.out.startswith("images: 3 signed")
    done = fleet("sign", f"{images}:none", "--workers", "1", state="none")
    assert done.exit_code == 9, "and ends where there is nothing to hash"


def test_reports_for_people_and_scripts(fleet, images, tmp_path):
    fleet("sign", "--from", images)
    state = tmp_path / "run.state"
    assert cli("fleet", "report", state).out.count("signed") == 3
    report = json.loads(cli("fleet", "report", state, "--output", "json").out)
    roots = {
        layer["root_hashes"]["containerd@1.9.4"]["root_hash"]
        for image in report["images"]
        for layer in image["layers"]
    }
    rows = list(csv.DictReader(io.StringIO(cli("fleet", "report", state, "--output", "csv").out)))
    assert {row["root_hash"] for row in rows} == roots
    assert len(rows) == 6


def test_an_index_is_descended_into(fleet, tmp_path):
    done = fleet("sign", f"{tmp_path}/layout:all", "--output", "json")
    assert json.loads(done.out)["images"]["signed"] == 3, "two images and the index"
    verified = fleet("verify", f"{tmp_path}/layout:all", state="verify.state")
    assert verified.exit_code == 0, verified.err


def test_the_status_tells_all_from_some_and_none(fleet, images, tmp_path):
    assert fleet("sign", f"{tmp_path}/layout:none", state="a").exit_code == 9
    done = fleet("sign", f"{tmp_path}/layout:v0", f"{tmp_path}/layout:none", state="b")
    assert done.exit_code == 8
    report = cli("fleet", "report", tmp_path / "b").out
    assert f"failed: {tmp_path}/layout:none: " in report
    assert f"repeat: dmsign-fast sign --oci-layout {tmp_path}/layout:none" in report


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no references"),
        ("layout:v1\n:\n", "line 2: ':': '' is not a tag"),
        ("layout\n", "line 1: layout names no image"),
        ("\xff", "line 1 is not UTF-8"),
    ],
)
def test_a_bad_list_is_told_by_its_line(fleet, tmp_path, text, words):
    (tmp_path / "list").write_bytes(text.encode("latin-1"))
    done = fleet("sign", "--from", tmp_path / "list")
    assert done.exit_code == 2
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run.state").exists()


def test_another_file_is_no_state(fleet, images, tmp_path):
    (tmp_path / "run.state").write_text("mine")
    done = fleet("sign", "--from", images)
    assert done.exit_code == 3
    assert "is no state file" in done.err
    assert (tmp_path / "run.state").read_text() == "mine"


def test_an_unfinished_run_is_not_begun_anew(fleet, images, tmp_path):
    assert fleet("sign", f"{tmp_path}/layout:none", "--max-failures", "0").exit_code == 9
    fleet("sign", "--from", images, "--resume")
    done = fleet("sign", "--from", images, "--recipe", "osguard", "--resume")
    assert done.exit_code in (0, 8)


def test_a_part_is_a_part(fleet, images):
    for wrong in ("2", "101%", "x", "-1%"):
        done = fleet("verify", "--from", images, f"--deep-sample={wrong}")
        assert done.exit_code == 2
        assert "give one from 0% to 100%" in done.err


def test_check_asks_the_workers():
    done = dmsign("fleet", "check", "--output", "json")
    assert done.exit_code == 0, done.err
    (facts,) = json.loads(done.out)["workers"].values()
    assert facts["lacks"] == []


def listed(dom):
    """The names in the table of images, in order."""
    body = dom.partition('<tbody id="images">')[2].partition("</tbody>")[0]
    return [one.partition("</summary>")[0] for one in body.split("<summary>")[1:]]


@needs_browser
def test_the_page_shows_sorts_and_filters_in_a_browser(fleet, images, tmp_path):
    fleet("sign", "--from", images, f"{tmp_path}/layout:none")
    report = tmp_path / "report.html"
    text = cli("fleet", "report", tmp_path / "run.state", "--output", "html").out
    report.write_text(text)
    names = [f"{tmp_path}/layout:v{n}" for n in range(3)]
    dom, console = dom_of(report, "", tmp_path)
    assert listed(dom) == names
    assert console == []
    assert "images: signed" in dom
    assert "saved by sharing" in dom
    assert f"dmsign-fast sign --oci-layout {tmp_path}/layout:none" in dom
    dom, console = dom_of(report, "#sort=reference&down=1", tmp_path)
    assert listed(dom) == names[::-1]
    dom, console = dom_of(report, "#filter=layout:V1", tmp_path)
    assert listed(dom) == names[1:2]
    assert console == []
    assert "http" not in text.replace("http-equiv", ""), "the page needs no network"


def test_fleet_signs_with_several_keys_and_logins_as_sign_does(fleet, images, tmp_path):
    """One place defines the options of sign: what it has, fleet sign has."""
    issuer = make_intermediate(make_root("Others"), "Other Intermediate")
    other = make_leaf(issuer, "Other Signer").write(tmp_path / "other")
    manifest = make_leaf(issuer, "Manifest Signer").write(tmp_path / "manifest")
    keys = (
        *("--and-key", other.key, "--and-cert", other.chain),
        *("--manifest-key", manifest.key, "--manifest-cert", manifest.chain),
    )
    assert fleet("sign", "--from", images).exit_code == 0
    done = fleet("sign", "--from", images, *keys)
    assert done.out.startswith("images: 3 signed, 0 signed before"), done.err
    done = fleet("sign", "--from", images, *keys)
    assert done.out.startswith("images: 0 signed, 3 signed before"), done.err
    for trust in (other.root, manifest.root):
        alone = ("--no-dm-verity",) if trust == manifest.root else ("--no-manifest-signature",)
        done = cli(
            *("verify", "--oci-layout", f"{tmp_path}/layout:v1", "--trust", trust, *alone),
        )
        assert done.exit_code == 0, done.out
    known = {option for command in ("sign",) for option in long_options(command)}
    fleets = long_options("fleet", "sign")
    # of one image: what an index is, how many layers at a time, and where root hashes come from
    assert known - fleets == {"--jobs", "--recursive", "--reuse", "--reuse-cert", "--reuse-from"}


def long_options(*command):
    return set(re.findall(r"--[a-z-]+", cli(*command, "--help").out))


def test_fleet_verify_has_the_options_of_verify():
    assert long_options("verify") - long_options("fleet", "verify") == {"--jobs", "--recursive"}


def test_what_contradicts_itself_is_refused_before_anything_is_written(fleet, images, tmp_path):
    for wrong in (
        ("--require-bound", "--no-dm-verity"),
        ("--no-dm-verity", "--no-manifest-signature"),
        ("--artifact", "acl", "--no-dm-verity"),
        ("--for", "acl", "--no-dm-verity"),
    ):
        done = fleet("verify", "--from", images, *wrong)
        assert done.exit_code == 2, done.err
        assert not (tmp_path / "run.state").exists()


def test_verify_for_a_node_and_of_a_form(fleet, images, tmp_path):
    acl = ("--artifact", "acl", "--recipe", "containerd-tar-index")
    assert fleet("sign", "--from", images).exit_code == 0
    wanted = ("verify", "--from", images, "--artifact", "acl")
    assert fleet(*wanted, state="a").exit_code == 1
    report = cli("fleet", "report", tmp_path / "a").out
    assert "no dm-verity acl signature is valid" in report
    assert "repeat: dmsign-fast verify --oci-layout --artifact acl " in report
    for _ in range(2):
        assert fleet("sign", "--from", images, *acl, "--force").exit_code == 0
    assert fleet(*wanted, "--require-bound", "--deep", state="b").exit_code == 0
    assert fleet(*wanted, "--for", "acl", state="c").exit_code == 1, "it refuses two of a form"
    assert "a node refuses the image" in fleet("sign", "--from", images, *acl, "--force").err
    done = fleet("sign", "--from", images, *acl, "--force", "--replace")
    assert done.exit_code == 0, done.err
    assert fleet(*wanted, "--for", "acl", state="d").exit_code == 0


def test_an_interrupted_run_says_how_it_goes_on(files, tmp_path):
    held, asked = threading.Event(), threading.Event()

    def hang(handler):
        asked.set()
        held.wait(60)
        handler.close_connection = True

    with RegistryServer() as server:
        with Registry(f"{server.host}/app") as store:
            push_image(store, "v1", tars(1))
        server.fail("GET", "/v2/app/manifests/.*", hang, 99)
        command = [*DMSIGN, "fleet", "sign", f"{server.host}/app:v1", "--state", tmp_path / "state"]
        key = ["--key", files.key, "--cert", files.chain]
        with subprocess.Popen([*command, *key], stderr=subprocess.PIPE) as process:
            assert asked.wait(60)
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            held.set()
            err = process.stderr.read().decode()
    assert process.returncode == 130
    assert err == "dmsign-fast: error: interrupted: --resume goes on with the run\n"
