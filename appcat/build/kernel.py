"""The kernel that lies compressed inside a bzImage.

Started from its ELF file a kernel enters through PVH at once. Under software emulation the decompressor inside the
bzImage takes as long as the whole rest of the boot.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable

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
    for magic, decompress in _DECOMPRESSORS.items():
        if payload.startswith(magic):
            return _check(decompress, payload)
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


def _check(decompress: Callable[[bytes], bytes], payload: bytes) -> bytes:
    import zstandard

    try:
        kernel = decompress(payload)
    except (lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise BuildError(f"the kernel's payload is damaged: {error}", hint="build again") from error
    if not kernel.startswith(_ELF):
        raise BuildError("the kernel's payload is not an ELF file", hint="choose another kernel package")
    return kernel


# Each leaves alone what follows the compressed stream: the build appends the size to it.
def _gunzip(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(payload)


def _unxz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)


def _unzstd(payload: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(payload)


_DECOMPRESSORS = {b"\x1f\x8b": _gunzip, b"\xfd7zXZ": _unxz, b"\x28\xb5\x2f\xfd": _unzstd}
