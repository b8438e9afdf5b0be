from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Callable

import pytest
import zstandard

from appcat.build.kernel import decompress_kernel
from appcat.errors import BuildError

ELF = b"\x7fELF" + bytes(range(256)) * 40


def bzimage(payload: bytes, *, version: int = 0x020F, setup_sectors: int = 3, length: int | None = None) -> bytes:
    """A kernel image as Documentation/x86/boot.rst lays it out, with ``payload`` some way into its protected part."""
    offset = 100
    header = bytearray((setup_sectors or 4) * 512 + 512)
    header[0x1F1] = setup_sectors
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, version)
    struct.pack_into("<II", header, 0x248, offset, len(payload) if length is None else length)
    return bytes(header) + b"\x90" * offset + payload + b"trailing code"


def with_size(compressed: bytes) -> bytes:
    """The kernel's build appends the uncompressed size to the compressed stream."""
    return compressed + struct.pack("<I", len(ELF))


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, lambda data: lzma.compress(data, check=lzma.CHECK_CRC32), zstandard.ZstdCompressor().compress],
    ids=["gzip", "xz", "zstd"],
)
@pytest.mark.parametrize("setup_sectors", [0, 3, 27])
def test_payload(compress: Callable[[bytes], bytes], setup_sectors: int) -> None:
    assert decompress_kernel(bzimage(with_size(compress(ELF)), setup_sectors=setup_sectors)) == ELF


def test_other_kernels_stay_as_they_are() -> None:
    image = b"MZ\x00\x91" + b"\0" * 2000
    assert decompress_kernel(image) == image


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (bzimage(b"\x02!L\x18lz4?"), "unknown way"),
        (bzimage(gzip.compress(b"not a program")), "not an ELF"),
        (bzimage(gzip.compress(ELF)[:50]), "cut off"),
        (bzimage(b"\xfd7zXZ\0garbage" * 9), "damaged"),
        (bzimage(gzip.compress(ELF), version=0x0207), "too old"),
        (bzimage(gzip.compress(ELF), length=1 << 30), "shorter"),
    ],
)
def test_damage_is_a_build_error(image: bytes, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        decompress_kernel(image)
