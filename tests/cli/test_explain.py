"""``dmsign-fast verity explain`` and ``verify --explain``: which file a block is of."""

import io
import json
import tarfile

import pytest
from browser import dom_of, needs_browser
from erofs_layers.twins import typical_tar
from helpers import cli, flip, noise, write

SCRIPT = "a <img src=x onerror=alert(1)><script>alert(2)</script>"
RECIPES = ("containerd", "containerd-tar-index")


def layer(tmp_path):
    """A tar with a file of known contents, of a name that would do harm in a page."""
    packed = io.BytesIO(typical_tar())
    with tarfile.open(fileobj=packed, mode="a") as tar:
        info = tarfile.TarInfo(SCRIPT)
        info.size = 20_000
        tar.addfile(info, io.BytesIO(noise(20_000)))
    return write(tmp_path / "layer.tar", packed.getvalue())


@pytest.fixture(params=RECIPES)
def image(request, tmp_path):
    """An image with its tree beside it."""
    path = tmp_path / "image"
    done = cli(
        *("layer", "convert", layer(tmp_path), "-o", path, "--verity", "separate"),
        *("--recipe", request.param),
    )
    assert done.exit_code == 0, done.err
    return path


def words(image):
    tree = image.with_suffix(".verity")
    return "verity", "verify", image, tree, "--root-hash-file", image.with_suffix(".roothash")


def test_one_byte_is_changed_and_the_file_is_named(image):
    at = image.read_bytes().index(noise(20_000)[10_000:10_100])
    flip(image, at)
    done = cli(*words(image), "--explain")
    assert done.exit_code == 1
    assert f"/{SCRIPT}, bytes " in done.out
    done = cli(*words(image), "--explain", "--output", "json")
    said = json.loads(done.out)
    (place,) = said["explained"]["places"]
    assert (place["kind"], place["path"]) == ("data", f"/{SCRIPT}")
    assert place["file_offset"] <= 10_000 < place["file_offset"] + place["size"]
    assert place["offset"] <= at < place["offset"] + place["size"]
    block = 4096 if said["explained"]["layout"] == "full" else 512
    assert [one["first_block"] for one in said["bad"]] == [at // block]
    done = cli("verity", "explain", image, f"@{at}", "--output", "json")
    (asked,) = json.loads(done.out)["ranges"]
    assert asked["places"] == [
        {
            **place,
            "offset": at,
            "size": 1,
            "file_offset": 10_000,
        }
    ]


def test_metadata_is_named(image):
    done = cli("verity", "explain", image)
    assert done.exit_code == 0
    for said in ("superblock", "inode of /", "directory of /etc", "xattrs of /usr/bin/tool"):
        assert said in done.out
    assert ("tar header of /etc/passwd" in done.out) == (
        "full" not in cli("verity", "explain", image, "--output", "json").out
    )
    done = cli("verity", "explain", image, "0", "2-3")
    assert done.out.splitlines()[0].startswith("0: bytes 0-")
    for wrong in ("x", "5-4", "@", "-"):
        assert cli("verity", "explain", image, wrong).exit_code == 2
    assert cli("verity", "explain", image, "99999999").exit_code == 2


def test_no_tree_is_needed(image, tmp_path):
    alone = write(tmp_path / "alone", image.read_bytes())
    page = tmp_path / "page.html"
    with_tree, without = (
        json.loads(cli("verity", "explain", one, "7", "--output", "json", "--html", page).out)
        for one in (image, alone)
    )
    assert with_tree["ranges"] == without["ranges"]
    assert '"paths":[]' in page.read_text()
    other = write(tmp_path / "other", noise(8192))
    done = cli("verity", "explain", other, "0")
    assert done.exit_code == 3
    assert "not an EROFS image" in done.out


def test_what_is_good_needs_no_explanation(image):
    done = cli(*words(image), "--explain")
    assert done.exit_code == 0
    assert "bytes" not in done.out
    done = cli(*words(image), "--explain", "--output", "json")
    assert json.loads(done.out)["explained"]["places"] == []


def test_a_damaged_superblock_is_said(image):
    flip(image, 1024)
    done = cli(*words(image), "--explain")
    assert done.exit_code == 1
    assert "superblock is damaged" in done.out
    assert cli("verity", "explain", image, "0").exit_code == 3


def test_a_page_says_what_is_bad_though_no_data_is(image, tmp_path):
    page = tmp_path / "page.html"
    assert cli(*words(image), "--html", page).exit_code == 0
    assert '"verdict":"every block is as it was hashed"' in page.read_text()
    tree = image.with_suffix(".verity")
    flip(tree, tree.stat().st_size - 1)
    assert cli(*words(image), "--html", page).exit_code == 1
    assert '"verdict":"0 data block(s) and 1 hash block(s) are bad"' in page.read_text()


@needs_browser
def test_the_page_shows_the_map_the_file_and_the_digests(image, tmp_path):
    at = image.read_bytes().index(noise(20_000)[10_000:10_100])
    flip(image, at)
    page = tmp_path / "report.html"
    done = cli(*words(image), "--html", page, "--output", "json")
    assert done.exit_code == 1
    dom, console = dom_of(page, "", tmp_path)
    assert console == []
    shown = SCRIPT.replace("<", "&lt;").replace(">", "&gt;")
    body = dom.partition("<script>")[0]
    assert f"<code>/{shown}</code>" in body
    assert "<img" not in body
    assert "Files affected: 1" in body
    cells = body.partition('<div id="map">')[2].partition("</div>")[0]
    assert cells.count('class="bad"') == 1
    for style in ("data", "metadata"):
        assert f'<i class="{style}"' in cells
    assert body.count("should be ") == 1, "one block is bad, and all above it are good"
    root_hash = image.with_suffix(".roothash").read_text()
    assert f"<code>{root_hash}</code>" in body
    assert "http" not in page.read_text().replace("http-equiv", ""), "it needs no network"
