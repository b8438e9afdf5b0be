"""The kernel that lies compressed inside a bzImage.

Started from its ELF file a kernel enters through PVH at once. Under software emulation the decompressor inside the
bzImage takes as long as the whole rest of the boot.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from typing import Protocol

import zstandard

from appcat.errors import BuildError

# Offsets in the setup header, Documentation/x86/boot.rst.
_SETUP_SECTORS = 0x1F1
_SIGNATURE, _SIGNATURE_AT = b"HdrS", 0x202
_VERSION_AT, _VERSION_WITH_PAYLOAD = 0x206, 0x0208
_PAYLOAD_OFFSET, _PAYLOAD_LENGTH = 0x248, 0x24C
_HEADER_END = 0x250
_SECTOR = 512
_DEFAULT_SETUP_SECTORS = 4
_ELF = b"\x7fELF"


def decompress_kernel(image: bytes) -> bytes:
    """The ELF file inside a bzImage; any other kind of kernel (arm64's is not compressed) is returned as it is.

    Raises BuildError for a damaged bzImage or a compression this cannot read.
    """
    if image[_SIGNATURE_AT : _SIGNATURE_AT + len(_SIGNATURE)] != _SIGNATURE or len(image) < _HEADER_END:
        return image
    payload = _payload(image)
    for magic, decompressor in _DECOMPRESSORS.items():
        if payload.startswith(magic):
            return _decompress(decompressor(), payload)
    raise BuildError(
        f"the kernel is compressed in an unknown way (it starts with {payload[:4].hex()})",
        hint="choose a kernel compressed with gzip, xz or zstd",
    )


def _payload(image: bytes) -> bytes:
    (version,) = struct.unpack_from("<H", image, _VERSION_AT)
    if version < _VERSION_WITH_PAYLOAD:
        raise BuildError("the kernel is too old to say where its payload is", hint="choose a newer kernel")
    start = ((image[_SETUP_SECTORS] or _DEFAULT_SETUP_SECTORS) + 1) * _SECTOR
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_OFFSET)
    payload = image[start + offset : start + offset + length]
    if len(payload) < length:
        raise BuildError("the kernel file is shorter than it says", hint="build again")
    return payload


def _decompress(decompressor: _Decompressor, payload: bytes) -> bytes:
    """The ELF file in a payload; what follows the stream is left alone: the kernel's build appends the size to it."""
    try:
        kernel = decompressor.decompress(payload)
    except (lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise BuildError(f"the kernel's payload is damaged: {error}", hint="build again") from error
    if not decompressor.eof:
        raise BuildError("the kernel's payload is cut off", hint="build again")
    if not kernel.startswith(_ELF):
        raise BuildError("the kernel's payload is not an ELF file", hint="choose another kernel package")
    return kernel


class _Decompressor(Protocol):
    """What the decompressors of gzip, xz and zstd have in common; each stops where its stream ends."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ)


def _zstd() -> _Decompressor:
    return zstandard.ZstdDecompressor().decompressobj()


_DECOMPRESSORS = {b"\x1f\x8b": _gzip, b"\xfd7zXZ": _xz, b"\x28\xb5\x2f\xfd": _zstd}
