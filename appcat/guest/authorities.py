"""Certificates of authorities, from a file of the host to what a guest is told."""

from __future__ import annotations

from pathlib import Path

from appcat.errors import InvalidInput

# Encoded for the guest program it is a third more; its document holds 256 KiB, and there is more to say.
LARGEST = 128 << 10
LARGEST_FILE = 4 << 20


def read_authorities(path: Path) -> bytes:
    """The certificates in a PEM file, and nothing else that may be in it; raises InvalidInput."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _refused(f"{path} cannot be read: {error.strerror}") from error
    if len(text) > LARGEST_FILE:
        raise _too_large(path)
    try:
        found = x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise _refused(f"{path} holds no certificates: {error}") from error
    certificates = b"".join(dict.fromkeys(one.public_bytes(Encoding.PEM) for one in found))
    if len(certificates) > LARGEST:
        raise _too_large(path)
    return certificates


def _too_large(path: Path) -> InvalidInput:
    return _refused(
        f"{path} holds more certificates than a guest can be told ({LARGEST >> 10} KiB)",
        "leave out those that guests have from their distribution",
    )


def _refused(message: str, hint: str = "give a PEM file: blocks of BEGIN CERTIFICATE") -> InvalidInput:
    return InvalidInput(message, hint=f"{hint}; or: appcat config unset ca-certificates", code="invalid-ca-file")
