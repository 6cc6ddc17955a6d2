"""The members of a tar, whatever stands in its headers."""

import contextlib
import io
import tarfile
import tracemalloc

import pytest

from dmsign_fast import bounded_tar
from dmsign_fast.bounded_tar import tar_members
from dmsign_fast.errors import FormatError


def header(name, size, kind, raw_size=None):
    block = bytearray(512)
    block[: len(name)] = name.encode()
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = raw_size or b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


class Endless(io.RawIOBase):
    """A header, and as many zeros as are asked for: how many is noted."""

    def __init__(self, begin, fill=b"\0"):
        self.place, self.begin, self.fill, self.most = 0, begin, fill, 0

    def read(self, size=-1):
        assert size >= 0
        self.most = max(self.most, size)
        data = self.begin[self.place : self.place + size]
        self.place += size
        return data + self.fill * (size - len(data))

    def seek(self, offset, whence=0):
        self.place = offset
        return offset

    def tell(self):
        return self.place


def of(members):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    made.seek(0)
    return made


def test_members_and_where_their_bytes_are():
    members = [("a", b"1"), ("b" * 200, b"22"), ("c/d", bytes(5000))]
    made = of(members)
    found = list(tar_members(made, "it"))
    assert [one.name for one in found] == [name for name, _ in members]
    for one, (_, data) in zip(found, members, strict=True):
        assert made.getvalue()[one.offset_data :][: one.size] == data


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"X"])
@pytest.mark.parametrize("size", [2 << 20, 3 << 30])
def test_a_header_of_any_size_is_not_read(kind, size):
    file = Endless(header("x", size, kind))
    with pytest.raises(FormatError, match="headers of more than"):
        list(tar_members(file, "it"))
    assert file.most <= 1 << 20


def test_sparse_maps_without_end_are_not_read():
    block = bytearray(header("x", 512, b"S"))
    block[482] = 1  # more of the map follows
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = b"%011o\0" % 1 * 42 + bytes(8)  # which says the same of itself
    file = Endless(bytes(block) + (more[:504] + b"\1" + bytes(7)) * 5000)
    tracemalloc.start()
    with pytest.raises(FormatError, match="headers of more than"):
        list(tar_members(file, "it"))
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("kind", [b"x", b"L"])
def test_headers_before_headers(kind):
    body = (b"11 a=bcdef\n" if kind == b"x" else b"name\0").ljust(512, b"\0")
    chain = (header("x", 11, kind) + body) * 1000 + header("a", 0, b"0") + bytes(1024)
    with pytest.raises(FormatError, match=r"very many headers|headers of more than"):
        list(tar_members(io.BytesIO(chain * 3), "it"))


@pytest.mark.parametrize("kind", [b"0", b"5", b"x", b"L", b"S", b"g", b"2"])
def test_a_size_below_zero(kind):
    below = b"\xff" * 8 + (-1024).to_bytes(4, "big", signed=True)
    file = io.BytesIO(header("a", 0, b"0") + header("b", 0, kind, below) + bytes(2048))
    with contextlib.suppress(FormatError):
        assert [one.name for one in tar_members(file, "it")][:1] == ["a"]


def test_members_have_a_bound(monkeypatch):
    monkeypatch.setattr(bounded_tar, "_MOST_MEMBERS", 3)
    assert len(list(tar_members(of([(name, b"") for name in "ab"]), "it"))) == 2
    with pytest.raises(FormatError, match="more than 3 members"):
        list(tar_members(of([(name, b"") for name in "abcd"]), "it"))


def test_what_is_decompressed_has_a_bound():
    with pytest.raises(FormatError, match="it has more than 1 MiB"):
        list(tar_members(Endless(header("a", 1 << 40, b"0")), "it", limit=1 << 20))


@pytest.mark.parametrize("data", [b"", b"x" * 512, b"\x1f\x8b" + bytes(1000), bytes(100)])
def test_what_is_no_tar(data):
    with pytest.raises(FormatError, match="it is no whole tar"):
        list(tar_members(io.BytesIO(data), "it"))
