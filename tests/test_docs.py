"""The pages say what the code does: their tables have the rows of the code's tables."""

import re
from pathlib import Path

import pytest

from dmsign_fast import _core, errors
from dmsign_fast.erofs.recipe import RECIPES, ImageLayout, UuidRule
from dmsign_fast.node.ipe.check import BYPASSES
from dmsign_fast.pipeline.convert import VERITY_MODES
from dmsign_fast.pipeline.forms import FORMS
from dmsign_fast.pipeline.nodes import NODES
from dmsign_fast.pipeline.targets import TARGETS, Kind
from dmsign_fast.signing.providers import PROVIDERS
from dmsign_fast.signing.scheme import KEYS, SCHEMES

HOME = Path(__file__).parent.parent


def table(page, head):
    """The rows, as lists of cells, of the table whose first line begins with ``head``."""
    lines = iter((HOME / page).read_text().splitlines())
    assert any(line.startswith(head) for line in lines), f"{page} has no table {head!r}"
    assert set(next(lines)) <= set("|-: ")
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def code(cell):
    """What stands in backquotes first in a cell."""
    return re.match("`([^`]*)`", cell)[1]


LAYOUTS = {ImageLayout.FULL: "full conversion", ImageLayout.TAR_INDEX: "index, tar appended"}
UUIDS = {UuidRule.DIGEST: "from the digest", UuidRule.DIFF_ID: "from the diff ID"}


def test_the_recipes():
    rows = table("docs/layers.md", "| `--recipe` |")
    assert [code(row[0]) for row in rows] == [recipe.name for recipe in RECIPES]
    assert "(default)" in rows[0][0]
    for row, recipe in zip(rows, RECIPES, strict=True):
        _, node, layout, uuid, blocks = row
        assert layout == LAYOUTS[recipe.layout]
        assert uuid.startswith(UUIDS.get(recipe.uuid, str(recipe.uuid)))
        assert int(blocks) == recipe.params.data_block_size == recipe.params.hash_block_size
        assert ("enable_tar_index" in node) == bool(recipe.enable_tar_index)


def test_the_settings_of_containerd_name_one_recipe_each():
    settings = [one.enable_tar_index for one in RECIPES if one.enable_tar_index is not None]
    assert sorted(settings) == [False, True]


def test_the_forms():
    rows = table("docs/images.md", "| `--artifact` |")
    assert [code(row[0]) for row in rows] == [form.name for form in FORMS]
    assert "(default)" in rows[0][0]
    for row, form in zip(rows, FORMS, strict=True):
        _, _, artifact_type, blobs, several = row
        assert code(artifact_type) == form.artifact_type
        assert blobs.split(", ") == [blob.part for blob in form.blobs]
        assert form.several.startswith(several)


def test_the_nodes():
    rows = table("docs/verify-images.md", "| `--for` |")
    assert [code(row[0]) for row in rows] == [node.name for node in NODES]
    for row, node in zip(rows, NODES, strict=True):
        assert row[1] == (f"`{node.form}`" if node.form else "nothing")


def test_what_to_export_for():
    rows = table("docs/export.md", "| `--for` |")
    assert [code(row[0]) for row in rows] == [target.name for target in TARGETS]
    assert "(default)" in rows[0][0]
    for row, target in zip(rows, TARGETS, strict=True):
        names = re.findall("`([^`]*)`", row[1])
        values = {"number": "N", "algorithm": "sha256", "two": "XX", "diff": "HEX"}
        assert names == [name.format_map(values) for name in target.files.values()]
        assert (row[2] == "behind the image") == (Kind.HASH_FILE not in target.files)
        wanted = [LAYOUTS[target.layout]] if target.layout else []
        wanted += [f"UUID {UUIDS[target.uuid]}"] if target.uuid else []
        assert row[3] == (", ".join(wanted) or "all")


def test_the_glossary():
    text = (HOME / "docs/glossary.md").read_text()
    words = set(re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE))
    words = {word.strip("`") for words_of_a_row in words for word in words_of_a_row.split(", ")}
    assert words >= {"recipe", "differ", "tar index", "root hash", "hash area", "diff ID"}
    assert words >= {"referrer", "keyring", "OSGuard", "IPE", "form", "bound", "proof", "parity"}


def test_the_ways_around_ipe():
    for page in ("docs/ipe.md", "docs/node.md"):
        rows = table(page, "| way around IPE |")
        assert [(way, re.split("[, ]", needs)[0]) for way, needs in rows] == [*BYPASSES.items()]


def test_the_places_of_the_hash_area():
    rows = table("docs/layers.md", "| `--verity` |")
    assert [code(row[0]) for row in rows] == list(VERITY_MODES)


def test_the_keys_of_root_hashes():
    rows = table("docs/signing.md", "| key |")
    pattern = r"ML-DSA-\d+|P-\d+|\b\d{4}\b"
    named = {word for row in rows for word in re.findall(pattern, row[0].partition(" (")[0])}
    kinds = [KEYS[spec] for one in SCHEMES if one.pkcs7_signature for spec in one.key_specs]
    assert named == {
        f"P-{kind.size}" if kind.curve else str(kind.size or kind.spec) for kind in kinds
    }
    digests = {one.digest for one in SCHEMES if one.pkcs7_signature}
    said = {f"sha{size}" for row in rows for size in re.findall(r"SHA-(\d+)", row[1])}
    assert said == digests


def test_the_key_providers():
    rows = table("docs/providers.md", "| URI |")
    assert {code(row[0]).partition(":")[0] for row in rows} == PROVIDERS.keys()


def test_the_implementations_of_sha_256():
    rows = table("docs/performance.md", "| implementation |")
    named = [code(row[0]) for row in rows if row[0].startswith("`")]
    assert set(named) >= set(_core.SHA256)
    assert sorted(named) == sorted({*named})
    sources = {path.stem.removeprefix("sha256_") for path in HOME.glob("csrc/**/*.c")}
    assert set(named) <= sources


@pytest.mark.parametrize("page", ["README.md"])
def test_the_exit_statuses(page):
    named = {row[0] for row in table(page, "| status |")}
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert {str(kind.exit_code) for kind in kinds} <= named
