"""Proofs: right ones are taken, and whatever is changed in one is refused."""

import functools
import hashlib
import json
import tempfile
from pathlib import Path

import pki
import pytest
from erofs_layers.twins import typical_tar
from helpers import cli, flip, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dmsign_fast.envelope.pkcs7 import sign_root_hash
from dmsign_fast.errors import DmsignError, FormatError, ParameterError, VerificationError
from dmsign_fast.pipeline.file_proof import proven_file
from dmsign_fast.pipeline.proof import Statement, check_proof, write_proof
from dmsign_fast.signing.local import load_local_signer
from dmsign_fast.strict_json import dump_json

MAGIC = b"dmsign-fast proof 1\n"
TOOL = bytes(range(256)) * 100
RECIPES = ("containerd", "containerd-tar-index")
HOME = tempfile.TemporaryDirectory()


@functools.cache
def image_by(recipe):
    """An image with its tree beside it."""
    home = Path(HOME.name) / recipe
    home.mkdir()
    tar = write(home / "layer.tar", typical_tar())
    done = cli(
        *("layer", "convert", tar, "-o", home / "image", "--verity", "separate"),
        *("--recipe", recipe),
    )
    assert done.exit_code == 0, done.err
    return home / "image"


def root_hash_of(image):
    return image.with_suffix(".roothash").read_text()


@functools.cache
def proof_of(recipe, what):
    image = image_by(recipe)
    out = image.with_name(f"proof-{what.replace('/', '-')}")
    done = cli("verity", "proof", image, what, "-o", out)
    assert done.exit_code == 0, done.err
    return out.read_bytes()


def checked(proof, root_hash):
    """The file that a proof shows, or its blocks; as the command does."""
    with tempfile.TemporaryFile() as file:
        file.write(proof)
        file.flush()
        found = check_proof(file.fileno(), bytes.fromhex(root_hash))
        return found.statement.runs if found.statement.path is None else proven_file(found)


def parts(proof):
    start = len(MAGIC) + 4
    size = int.from_bytes(proof[len(MAGIC) : start], "little")
    return json.loads(proof[start : start + size]), proof[start + size : -32]


def sealed(header, blocks):
    """A proof whose last bytes are right, as whoever wants to cheat would make it."""
    text = header if isinstance(header, bytes) else dump_json(header)
    whole = MAGIC + len(text).to_bytes(4, "little") + text + blocks
    return whole + hashlib.sha256(whole).digest()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/usr/bin/tool", TOOL),
        ("/usr/bin/alias", TOOL),
        ("/etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        ("/etc/empty", b""),
        (f"/{'long/' * 30}name", b"deep"),
        ("/sparse", bytes(300_000) + b"end"),
    ],
)
def test_a_file_is_proven(recipe, path, data, tmp_path):
    root_hash = root_hash_of(image_by(recipe))
    proof = write(tmp_path / "proof", proof_of(recipe, path))
    same = write(tmp_path / "same", data)
    words = ("verity", "proof-check", proof, "--root-hash", root_hash)
    done = cli(*words, "--file", same, "--path", path, "--output", "json")
    assert done.exit_code == 0, done.err
    said = json.loads(done.out)
    assert (said["path"], said["size"]) == (path, len(data))
    assert said["sha256"] == hashlib.sha256(data).hexdigest()
    other = write(tmp_path / "other", data + b"!")
    assert cli(*words, "--file", other).exit_code == 1
    assert cli(*words, "--path", "/etc/shadow").exit_code == 1
    wrong = root_hash.translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    assert cli("verity", "proof-check", proof, "--root-hash", wrong).exit_code == 1
    assert cli("verity", "proof-check", proof, "--root-hash", "00").exit_code == 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_block_is_proven(recipe):
    image = image_by(recipe)
    size = 4096 if recipe == "containerd" else 512
    proof = proof_of(recipe, "7")
    assert checked(proof, root_hash_of(image)) == ((7, 1),)
    _, blocks = parts(proof)
    assert blocks[:size] == image.read_bytes()[7 * size : 8 * size]


def test_the_signature_of_the_root_hash_is_judged(tmp_path):
    image = image_by("containerd")
    proof = write(tmp_path / "proof", proof_of("containerd", "/etc/passwd"))
    made = pki.make_leaf(pki.make_root()).write(tmp_path / "pki")
    signer = load_local_signer(made.key, made.chain)
    root_hash = bytes.fromhex(root_hash_of(image))
    words = (
        *("verity", "proof-check", proof, "--root-hash-file", image.with_suffix(".roothash")),
        *("--cert", made.root, "--signature"),
    )
    good = write(tmp_path / "good", sign_root_hash(root_hash, signer))
    done = cli(*words, good)
    assert done.exit_code == 0, done.err
    lines = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert lines["Root hash"].strip() == root_hash.hex()
    assert "Test Signer" in lines["Signed by"]
    wrong = write(tmp_path / "wrong", sign_root_hash(root_hash[::-1], signer))
    done = cli(*words, wrong)
    assert done.exit_code == 1
    assert not done.out


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("what", ["/usr/bin/tool", "/etc/passwd", "7"])
@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 1 << 24), bits=st.integers(1, 255), seal=st.booleans())
@example(at=len(MAGIC) - 2, bits=3, seal=True)
def test_whatever_byte_is_changed_the_proof_is_refused(recipe, what, at, bits, seal):
    proof = bytearray(proof_of(recipe, what))
    at %= len(proof)
    proof[at] ^= bits
    if seal:
        proof[-32:] = hashlib.sha256(proof[:-32]).digest()
        if bytes(proof) == proof_of(recipe, what):
            return
    with pytest.raises((FormatError, ParameterError, VerificationError, DmsignError)):
        checked(bytes(proof), root_hash_of(image_by(recipe)))


@pytest.mark.parametrize("what", ["/usr/bin/tool", "7"])
@settings(max_examples=100, deadline=None)
@given(cut=st.integers(1, 1 << 24), more=st.binary(max_size=40), seal=st.booleans())
def test_a_proof_that_is_cut_or_goes_on_is_refused(what, cut, more, seal):
    proof = proof_of("containerd", what)
    changed = proof[: -(cut % len(proof)) or None] + more
    if seal and len(changed) > 32:
        changed = changed[:-32] + hashlib.sha256(changed[:-32]).digest()
    if changed == proof:
        return
    with pytest.raises(DmsignError):
        checked(changed, root_hash_of(image_by("containerd")))


HUGE = (1 << 62) - 1


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/etc/shadow"},
        {"path": "/usr/bin"},
        {"path": "usr/bin/../bin/tool"},
        {"data_blocks": 1},
        {"data_blocks": HUGE // 4096},
        {"runs": [[0, HUGE // 4096]], "data_blocks": HUGE // 4096},
        {"runs": [[0, HUGE]]},
        {"runs": [[-1, 1]]},
        {"runs": [[0, 0]]},
        {"runs": []},
        {"runs": [[1, 1], [0, 1]]},
        {"runs": [["0", 1]]},
        {"hash_algorithm": "md5"},
        {"hash_algorithm": "crc32"},
        {"hash_type": 0},
        {"salt": ""},
        {"salt": "zz"},
        {"salt": None},
        {"data_block_size": 512},
        {"hash_block_size": 1 << 40},
        {"more": 1},
    ],
    ids=str,
)
def test_a_header_that_says_something_else_is_refused(change):
    header, blocks = parts(proof_of("containerd", "/usr/bin/tool"))
    assert checked(sealed(header, blocks), root_hash_of(image_by("containerd"))).path == (
        "/usr/bin/tool"
    )
    with pytest.raises(DmsignError):
        checked(sealed(header | change, blocks), root_hash_of(image_by("containerd")))


def test_a_hash_block_does_not_pass_as_data_of_a_file():
    """The root hash does not say how high the tree is, but no hash block is a superblock."""
    header, blocks = parts(proof_of("containerd", "/usr/bin/tool"))
    top = blocks[-4096:]
    lower = header | {"data_blocks": 1, "runs": [[0, 1]]}
    root_hash = root_hash_of(image_by("containerd"))
    assert checked(sealed(lower | {"path": None}, top), root_hash) == ((0, 1),)
    with pytest.raises(FormatError, match="EROFS"):
        checked(sealed(lower, top), root_hash)


@pytest.mark.parametrize("more", [-1, 1])
def test_a_block_more_or_less_is_refused(more):
    """Each block agrees with the root hash, and still they are not those of the path."""
    image = image_by("containerd")
    header, _ = parts(proof_of("containerd", "/usr/bin/tool"))
    runs = [list(run) for run in header["runs"]]
    at = next(n for n, run in enumerate(runs) if run[1] > 1)
    runs[at][1] += more
    after = runs[at + 1 : at + 2]
    if after and sum(runs[at]) == after[0][0]:
        runs[at : at + 2] = [[runs[at][0], runs[at][1] + after[0][1]]]
    statement = Statement.of_header(dump_json(header | {"runs": runs}))
    with (
        tempfile.TemporaryFile() as out,
        image.open("rb") as data,
        image.with_suffix(".verity").open("rb") as hashes,
    ):
        area = statement.params.hash_area(statement.data_blocks)
        write_proof(out.fileno(), data.fileno(), hashes.fileno(), area, statement)
        proof = check_proof(out.fileno(), bytes.fromhex(root_hash_of(image)))
        with pytest.raises(VerificationError, match=r"other blocks|does not have byte"):
            proven_file(proof)


def test_json_in_another_spelling_is_refused():
    header, blocks = parts(proof_of("containerd", "7"))
    for text in (json.dumps(header).encode(), dump_json(header) + b" ", b"[]", b"{", b""):
        with pytest.raises(FormatError):
            checked(sealed(text, blocks), root_hash_of(image_by("containerd")))


def test_a_damaged_image_is_not_proven(tmp_path):
    image = image_by("containerd")
    damaged = write(tmp_path / "image", image.read_bytes())
    flip(damaged, damaged.read_bytes().index(TOOL) + 5000)
    out = tmp_path / "proof"
    words = ("--hash-file", image.with_suffix(".verity"), "-o", out)
    done = cli("verity", "proof", damaged, "/usr/bin/tool", *words)
    assert done.exit_code == 1
    assert "cannot be proven" in done.err
    assert not out.exists()
    assert cli("verity", "proof", damaged, "/etc/passwd", *words).exit_code == 0
    for wrong in ("/nothing", "/bin", "/usr", "x", "99999999"):
        out.unlink(missing_ok=True)
        assert cli("verity", "proof", image, wrong, "-o", out).exit_code in (2, 4)
        assert not out.exists()
