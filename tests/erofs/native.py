"""The C writer through ctypes, for tests: a tar in, an image out."""

from __future__ import annotations

import ctypes as c
import os
import uuid as uuidlib
from pathlib import Path

LIB = Path(
    os.environ.get("LAYER_LIB", Path(__file__).resolve().parents[2] / "build" / "liblayer.so")
)

SINK = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_uint64, c.POINTER(c.c_uint8), c.c_size_t)


class Options(c.Structure):
    _fields_ = [
        ("layout", c.c_int),
        ("group", c.c_void_p),
        ("lossy", c.c_bool),
        ("uid", c.c_uint32),
        ("gid", c.c_uint32),
        ("max_entries", c.c_uint32),
        ("max_metadata", c.c_uint64),
        ("seed", c.c_uint64),
    ]


class Sink(c.Structure):
    _fields_ = [("ctx", c.c_void_p), ("data", SINK), ("meta", SINK)]


class Info(c.Structure):
    _fields_ = [
        ("image_size", c.c_uint64),
        ("data_offset", c.c_uint64),
        ("data_size", c.c_uint64),
        ("inodes", c.c_uint64),
    ]


class Error(c.Structure):
    _fields_ = [
        ("code", c.c_int),
        ("offset", c.c_uint64),
        ("reason", c.c_char_p),
        ("name", c.c_char * 256),
    ]


class RefusedError(Exception):
    def __init__(self, code: int, reason: str, name: bytes) -> None:
        super().__init__(f"{os.strerror(-code)}: {name!r}: {reason}")
        self.code, self.reason, self.name = code, reason, name


lib = c.CDLL(str(LIB))
lib.mkfs_group_of.restype = c.c_void_p
lib.layer_new.restype = c.c_void_p
lib.layer_error.restype = c.POINTER(Error)
lib.layer_update.argtypes = [c.c_void_p, c.c_char_p, c.c_size_t]
lib.layer_final.argtypes = [c.c_void_p, c.c_char_p, c.POINTER(Info)]
lib.layer_error.argtypes = lib.layer_free.argtypes = [c.c_void_p]


def convert(
    tar: bytes,
    version: str,
    layout: str,
    uuid: str,
    lossy: bool = False,
    pieces=None,
    discard: bool = False,
    seed: int = 1,
) -> bytes:
    """The image (layout D: its metadata). `pieces`: lengths to feed the tar in."""
    image: dict[int, bytes] = {}

    def put(_ctx, offset, data, length):
        if not discard:
            image[offset] = c.string_at(data, length)
        return 0

    tarred = 0

    def skip(_ctx, offset, _data, length):
        nonlocal tarred
        assert offset == tarred
        tarred += length
        return 0

    group = lib.mkfs_group_of(version.encode())
    assert group, version
    options = Options(layout=0 if layout == "A" else 1, group=group, lossy=lossy, seed=seed)
    sink = Sink(None, SINK(put if layout == "A" else skip), SINK(put))
    layer = lib.layer_new(c.byref(options), c.byref(sink))
    assert layer
    try:
        info = Info()
        ret = 0
        if pieces is None:
            ret = lib.layer_update(layer, tar, len(tar))
        else:
            at = 0
            for n in pieces:
                ret = lib.layer_update(layer, tar[at : at + n], len(tar[at : at + n]))
                at += n
                if ret or at >= len(tar):
                    break
            if not ret and at < len(tar):
                ret = lib.layer_update(layer, tar[at:], len(tar) - at)
        if not ret:
            ret = lib.layer_final(layer, uuidlib.UUID(uuid).bytes, c.byref(info))
        if ret:
            error = lib.layer_error(layer).contents
            assert error.code == ret
            raise RefusedError(ret, error.reason.decode(), error.name)
        out = bytearray(info.image_size)
        covered = 0
        for offset, data in image.items():
            out[offset : offset + len(data)] = data
            covered += len(data)
        assert discard or (covered == len(out) == info.image_size), (
            covered,
            len(out),
            info.image_size,
        )
        return bytes(out)
    finally:
        lib.layer_free(layer)
