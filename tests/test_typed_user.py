"""What a type checker knows of the package: every public name, and what is wrong with a use."""

import re
import subprocess
import sys
from pathlib import Path

import dmsign_fast

USER = '''
"""A program of a user."""

from pathlib import Path

from dmsign_fast import (
    {names}
)

params = VerityParams(salt=b"")
hasher = VerityHasher(params, threads=1)
hasher.update(b"data")
root_hash: bytes = hasher.finalize().root_hash
fec = FecDevice(Path("fec"), roots=2)
try:
    formatted = format_file(Path("data"), Path("hashes"), params, fec=fec)
    verified: bytes = verify_file(Path("data"), Path("hashes"), formatted.root_hash).root_hash
    repaired: int = repair_file(Path("data"), Path("hashes"), root_hash, fec).errors
except CorruptionError as error:
    print(error.report.bad)
except UnrepairedError as error:
    print(error.report.unrepaired)
except (StorageError, ProgramError, FormatError, ParameterError) as error:
    print(error.exit_code)

recipe = Recipe.parse("containerd")
expected, conversion = Expected(size=3), Conversion(threads=1)
layer = hash_layer("layer", recipe, expected, conversion)
digest: str | None = layer.digest
converted = convert_layer("layer", Path("image"), recipe, expected, conversion)
layers = LayerHasher(recipe, threads=1)
layers.update(b"tar")


def sign(store: Layout | Registry, signer: Signer) -> None:
    """Sign and verify."""
    for image in sign_image(store, "1.0", signer, SignOptions(recipe=recipe)):
        print(image.manifest.digest)
    trust = trust_files(load_trust_anchors(Path("root.pem")))
    trust = trust_by_policy("registry.example/app")
    verdicts = verify_image(store, "1.0", VerifyOptions(recipe=recipe, trust=trust))
    check_passed(verdicts, "app")
    passed: bool = verdicts[0].passed
    print(passed)


try:
    sign(Layout(Path("image")), open_signer("file:key.pem", KeyOptions()))
    with Registry("registry.example/app", Connection(), Credentials("alice", "secret")) as store:
        sign(store, open_signer("file:key.pem"))
except (AttachError, NotFoundError, RegistryError, SigningError, UnsignedError) as error:
    print(error.exit_code)
except (VerificationError, DmsignError) as error:
    print(error.exit_code)
'''
WRONG = {  # and what mypy says
    'VerityParams(salt="00")': "arg-type",
    'format_file("data")': "arg-type",
    "hash_layer(123, recipe)": "arg-type",
    'Recipe.parse("containerd").nothing': "attr-defined",
    'sign_image(Layout("image"), 5, signer, SignOptions(recipe=recipe))': "arg-type",
    'SignOptions(recipe="containerd")': "arg-type",
    "dmsign_fast.nothing": "attr-defined",
}


def mypy(place, text):
    (place / "user.py").write_text(text)
    words = ("--strict", "--config-file=", "--no-error-summary", "--cache-dir", place / "cache")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, words), "user.py"],
        check=False,
        cwd=place,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.stderr == ""
    return done.stdout


def test_mypy_knows_every_name_and_what_is_wrong(tmp_path):
    names = ",\n    ".join(dmsign_fast.__all__)
    good = USER.format(names=names)
    used = good.partition(")\n")[2]
    assert [name for name in dmsign_fast.__all__ if not re.search(rf"\b{name}\b", used)] == []
    lines = ["", "signer = open_signer('file:key.pem')", "import dmsign_fast", *WRONG]
    said = mypy(tmp_path, good + "\n".join(lines) + "\n")
    found = re.findall(r"^user\.py:(\d+): error: .*\[([a-z-]+)\]$", said, re.MULTILINE)
    first = len(good.splitlines()) + len(lines) - len(WRONG) + 1
    assert found == [(str(first + at), kind) for at, kind in enumerate(WRONG.values())], said


def test_the_package_says_that_it_is_typed():
    assert (Path(dmsign_fast.__file__).parent / "py.typed").exists()
