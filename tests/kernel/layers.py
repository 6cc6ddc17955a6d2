"""An image, signed in a registry by the command line, read back, and converted as a node does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pki
from helpers import cli, dmsign, flip, noise, program, run, zstd

from .identities import Identities
from .images import Image
from .remote_keys import SIGNERS

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DM_VERITY = "application/vnd.cncf.notary.signature.dm-verity"
LAYER = "io.cncf.notary.layer.digest"
ACL = "application/vnd.containerd.erofs"
ACL_LAYER = "io.containerd.erofs.v1/dmverity.source-layer-digest"
ACL_ROOT_HASH = "io.containerd.erofs.v1/dmverity.root-hash"
TIME = 1_700_000_000


@dataclass(frozen=True)
class Signing:
    """One run of ``dmsign-fast sign`` on the image."""

    recipe: str
    signer: str
    certificates: bool = True
    form: str = "notation"

    @property
    def name(self) -> str:
        form = "" if self.form == "notation" else f"-{self.form}"
        return f"{self.recipe}-{self.signer}{'' if self.certificates else '-no-certs'}{form}"

    def case(self, layer: str) -> str:
        return f"{self.name}-{layer}"


_FIRST = tuple(Signing("containerd", signer) for signer in SIGNERS)
_INDEXED = ("containerd-tar-index", "osguard")
PUBLISHED = Signing("containerd-tar-index", "RSA-2048", form="acl")
"""With metadata and hash areas in the registry, of which the node makes its files."""
SIGNINGS = (
    *_FIRST,
    *(Signing("containerd", key, certificates=False) for key in pki.KEY_SPECS),
    *(Signing(recipe, "RSA-3072") for recipe in _INDEXED),
    *(Signing(recipe, "EC-384", certificates=False) for recipe in _INDEXED),
    PUBLISHED,
)
LISTED = (_FIRST[0], *(one for one in SIGNINGS if one.recipe in _INDEXED and one.certificates))
"""Those of which the file systems are mounted and read, one for each recipe and form."""


def _tar(entries: dict[str, dict[str, Any] | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, about in entries.items():
            member = tarfile.TarInfo(name)
            member.mtime = TIME + len(name)
            if isinstance(about, bytes):
                member.size = len(about)
                archive.addfile(member, io.BytesIO(about))
                continue
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            for key, value in about.items():
                setattr(member, key, value)
            archive.addfile(member)
    return buffer.getvalue()


def _link(kind: bytes, target: str) -> dict[str, Any]:
    return {"type": kind, "linkname": target, "mode": 0o777}


def _xattrs(**attributes: str) -> dict[str, Any]:
    names = {name.replace("_", "."): value for name, value in attributes.items()}
    return {"pax_headers": {f"SCHILY.xattr.{name}": value for name, value in names.items()}}


def _everything() -> bytes:
    """Each kind of entry that a layer can have."""
    sizes = {f"size/{size}": noise(size, size + 1) for size in (0, 1, 511, 4095, 4096, 4097)}
    return _tar(
        {
            "./": {},
            "size/": {"mode": 0o1777, "uid": 1000, "gid": 70_000},
            **sizes,
            "size/large": noise(200_000),
            "size/zeros": bytes(50_000),
            "links/": {},
            "links/hard": _link(tarfile.LNKTYPE, "size/4097"),
            "links/harder": _link(tarfile.LNKTYPE, "size/4097"),
            "links/relative": _link(tarfile.SYMTYPE, "../size/large"),
            "links/absolute": _link(tarfile.SYMTYPE, "/size/1"),
            "links/nowhere": _link(tarfile.SYMTYPE, "n" * 300),
            "odd/": {"mode": 0o700},
            "odd/a name with spaces": b"spaces",
            "odd/naïve ☃": b"beyond ASCII",
            f"odd/{'l' * 255}": b"a long name",
            "odd/setuid": {"mode": 0o6755, "uid": 2**21 + 5, "gid": 65_536},
            "odd/null": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666},
            "odd/disk": {"type": tarfile.BLKTYPE, "devmajor": 259, "devminor": 70_000},
            "odd/pipe": {"type": tarfile.FIFOTYPE},
            "xattrs/": _xattrs(user_directory="yes"),
            "xattrs/user": _xattrs(user_a="1", user_b="two", trusted_c="three"),
            "xattrs/security": _xattrs(security_capability="\x01\0\0\x02" + "\0\x04" + "\0" * 14),
            "gone/": {},
            "gone/file": b"removed by the next layer",
            "hidden/": {},
            "hidden/file": b"hidden by the next layer",
        }
    )


def _changes() -> bytes:
    """What a later layer does to the first: files removed, a directory emptied, one replaced."""
    return _tar(
        {
            "gone/": {},
            "gone/.wh.file": {},
            "hidden/": {"mode": 0o711},
            "hidden/.wh..wh..opq": {},
            "hidden/other": b"new",
            "size/": {"uid": 7},
            "size/large": b"small now",
        }
    )


def _many() -> bytes:
    """Directories of more than a block."""
    names = [f"d{number % 3}/{number:04}-{'x' * (number % 50)}" for number in range(240)]
    entries = {f"d{number}/": {} for number in range(3)}
    return _tar(entries | {name: name.encode() * 9 for name in names})


# The first is large enough for a tree of two levels; the last is what `WORKDIR /` makes.
LAYERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "everything": ("gzip", _everything),
    "changes": ("zstd", _changes),
    "many": ("none", _many),
    "empty": ("gzip", lambda: _tar({})),
}
DAMAGED = "layer-damaged"
SWAPPED = "layer-swapped"


def make_layers(work: Path, tree: Path, identities: Identities, registry: str) -> None:
    """Sign the image in the registry by everyone, and make what a node would open of it.

    Below ``tree`` are then ``layers``, as converted, and ``cases``, each a layer with one of its
    signatures.
    """
    layout = _write_layout(work / "image")

    def sign(signing: Signing, arguments: tuple[str, ...]) -> Repository:
        repository = Repository(registry, f"kernel/{signing.name.lower()}")
        reference = f"{registry}/{repository.name}:v1"
        copy = ("copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:v1")
        done = run(program("skopeo"), "--insecure-policy", *copy, f"docker://{reference}")
        assert done.exit_code == 0, done.err
        more = () if signing.certificates else ("--no-certs",)
        done = dmsign(
            *("sign", reference, "--recipe", signing.recipe, "--artifact", signing.form),
            *("--quiet", *arguments, *more),
            environment={"HOME": str(work), "DOCKER_CONFIG": str(work)},
        )
        assert done.exit_code == 0, done.err
        return repository

    # most of the time they wait, to see whether another has changed the index of referrers
    with ThreadPoolExecutor(4) as executor, ExitStack() as homes:
        arguments = {
            name: homes.enter_context(home(identities, name, work / name))
            for name, home in SIGNERS.items()
        }
        repositories = list(
            executor.map(sign, SIGNINGS, (arguments[one.signer] for one in SIGNINGS))
        )
    for signing, repository in zip(SIGNINGS, repositories, strict=True):
        if signing is PUBLISHED:
            _assemble(tree, repository)
            continue
        layers, signatures = repository.image("v1")
        for name, layer in zip(LAYERS, layers, strict=True):
            converted = tree / f"layers/{signing.recipe}-{name}"
            if not converted.exists():
                _convert(repository.blob(layer), layer, signing.recipe, converted)
            case = _case(tree / "cases" / signing.case(name), converted, signatures[layer])
            if signing in LISTED:
                (case.directory / "mount").touch()
    _spoil(tree)


def _write_layout(path: Path) -> Path:
    """Write an OCI layout by hand."""
    blobs = path / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_json(value: object, media_type: str) -> dict[str, Any]:
        return add(json.dumps(value).encode(), media_type)

    descriptors, diff_ids = [], []
    for compression, make in LAYERS.values():
        tar = make()
        diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
        suffix = "" if compression == "none" else f"+{compression}"
        packed = _compress(tar, compression)
        descriptors.append(add(packed, f"application/vnd.oci.image.layer.v1.tar{suffix}"))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": add_json(config, "application/vnd.oci.image.config.v1+json"),
        "layers": descriptors,
    }
    entry = add_json(manifest, MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return path


def _compress(tar: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(tar, mtime=0)
    if compression == "zstd":
        return zstd(tar)
    return tar


@dataclass(frozen=True)
class Repository:
    """A repository by plain HTTP; each answer must have the digest that was asked for."""

    registry: str
    name: str

    def _get(self, what: str, digest: str = "") -> bytes:
        request = urllib.request.Request(
            f"http://{self.registry}/v2/{self.name}/{what}",
            headers={"Accept": f"{MANIFEST}, {INDEX}, */*"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            data = answer.read()
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert found == (digest or found), f"{what} has the digest {found}"
        return data

    def blob(self, digest: str) -> bytes:
        return self._get(f"blobs/{digest}", digest)

    def artifact(self, tag: str, artifact_type: str) -> tuple[list[str], list[dict[str, Any]]]:
        """Return the digests of the layers, and what the only such referrer has, by its tag."""
        raw = self._get(f"manifests/{tag}")
        layers = [layer["digest"] for layer in json.loads(raw)["layers"]]
        index = json.loads(self._get(f"manifests/sha256-{hashlib.sha256(raw).hexdigest()}"))
        (entry,) = (one for one in index["manifests"] if one["artifactType"] == artifact_type)
        artifact = json.loads(self._get(f"manifests/{entry['digest']}", entry["digest"]))
        return layers, artifact["layers"]

    def image(self, tag: str) -> tuple[list[str], dict[str, bytes]]:
        """Return the digests of the layers, and the PKCS#7 of each."""
        layers, blobs = self.artifact(tag, DM_VERITY)
        return layers, {one["annotations"][LAYER]: self.blob(one["digest"]) for one in blobs}


def _convert(blob: bytes, digest: str, recipe: str, directory: Path) -> None:
    directory.mkdir(parents=True)
    source, out = directory / "layer", directory / "data"
    source.write_bytes(blob)
    options = ("--recipe", recipe, "--digest", digest, "--quiet")
    done = cli("layer", "convert", source, "-o", out, *options)
    assert done.exit_code == 0, done.err
    source.unlink()


def _case(directory: Path, converted: Path, signature: bytes) -> Image:
    """A case by what containerd leaves on a node, and the signature from the registry."""
    image = Image(directory)
    image.directory.mkdir(parents=True)
    image.data.symlink_to(os.path.relpath(converted / "data", directory))
    known = json.loads((converted / "data.dmverity").read_text())
    image.root_hash.write_text(known["roothash"])
    image.options.write_text(f"--hash-offset {known['hashoffset']}")
    image.signature.write_bytes(signature)
    return image


def _assemble(tree: Path, repository: Repository) -> None:
    """Make each layer's case as a node of Azure Container Linux does.

    [metadata][tar][zeros to a multiple of 4096 bytes][superblock, hash area], all but the tar from
    the registry (acl/SPECS/containerd2/erofs-signed-dmverity.patch).
    """
    layers, blobs = repository.artifact("v1", f"{ACL}.dmverity.v1")
    for (name, (_, make)), layer in zip(LAYERS.items(), layers, strict=True):
        mine = {one["mediaType"]: one for one in blobs if one["annotations"][ACL_LAYER] == layer}
        signature = mine[f"{ACL}.dmverity.layer-signature.v1+pkcs7"]
        image = Image(tree / "cases" / PUBLISHED.case(name))
        image.directory.mkdir(parents=True)
        data = repository.blob(mine[f"{ACL}.metadata.v1"]["digest"]) + make()
        data += bytes(-len(data) % 4096)
        hash_file = repository.blob(mine[f"{ACL}.dmverity.merkle-tree.v1"]["digest"])
        image.data.write_bytes(data + hash_file)
        image.root_hash.write_text(signature["annotations"][ACL_ROOT_HASH])
        image.options.write_text(f"--hash-offset {len(data)}")
        image.signature.write_bytes(repository.blob(signature["digest"]))
        (image.directory / "mount").touch()


def data_end(image: Image) -> int:
    """The bytes of data that the superblock behind them names (cryptsetup, struct verity_sb)."""
    offset = int(image.options.read_text().split()[-1])
    block, _, blocks = struct.unpack_from("<IIQ", image.data.read_bytes(), offset + 64)
    return int(block * blocks)


def _spoil(tree: Path) -> None:
    """Add the first layer with a damaged file, and with the signature of the second."""
    cases = tree / "cases"
    first, second = (Image(cases / LISTED[0].case(name)) for name in ("everything", "changes"))
    for name in (DAMAGED, SWAPPED):
        copy = Image(cases / name)
        copy.directory.mkdir()
        copy.data.write_bytes(first.data.read_bytes())
        copy.root_hash.write_text(first.root_hash.read_text())
        copy.options.write_text(first.options.read_text())
        source = second if name == SWAPPED else first
        copy.signature.write_bytes(source.signature.read_bytes())
        (copy.directory / "mount").touch()
    data = cases / DAMAGED / "data"
    flip(data, data.read_bytes().index(noise(200_000)) + 100_000)
