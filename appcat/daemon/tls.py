"""The daemon's certificate: one of its own, made at first use, or one that its owner brings."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appcat.errors import InvalidInput
from appcat.guest.certificate import general_name, pem
from appcat.store.files import write_atomic

LIFE = timedelta(days=825)
RENEW_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Identity:
    """A certificate in use: its file, its SHA-256 as ``AB:CD:...``, by which clients can pin it, the names in it."""

    file: Path
    context: ssl.SSLContext
    fingerprint: str
    names: frozenset[str]


def own(certificate: Path, key: Path, names: Iterable[str]) -> Identity:
    """The identity in these two files, made new where it does not name all of ``names``, or is near its end."""
    wanted = frozenset(names)
    if not _will_do(certificate, key, wanted):
        made, private = make(wanted)
        # The key first: a certificate without its key would be believed to do.
        write_atomic(key, pem(private))
        write_atomic(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return load(certificate, key)


def load(certificate: Path, key: Path) -> Identity:
    """The identity in these two files; raises InvalidInput when they are none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key with a passphrase would have OpenSSL ask for it, at a terminal that may not be there.
        context.load_cert_chain(certificate, key, password=lambda: "")
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{certificate} and {key} are no certificate and its key: {error}",
            hint="give PEM files of a certificate (with its chain) and of its key without a passphrase",
        ) from error
    return Identity(certificate, context, fingerprint(read), names_in(read))


def _will_do(certificate: Path, key: Path, wanted: frozenset[str]) -> bool:
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        fits = found.public_key() == private.public_key()
    except (OSError, ValueError, TypeError):
        return False
    return fits and wanted <= names_in(found) and datetime.now(UTC) < found.not_valid_after_utc - RENEW_BEFORE


def make(names: frozenset[str]) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A self-signed certificate for ``names`` (host names and IP addresses), and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "appcat daemon")])
    start = datetime.now(UTC) - timedelta(hours=1)  # clocks differ
    builder = (
        x509.CertificateBuilder(
            subject, subject, private.public_key(), x509.random_serial_number(), start, start + LIFE
        )
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in sorted(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(private, hashes.SHA256()), private


def names_in(certificate: x509.Certificate) -> frozenset[str]:
    """The names that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return frozenset(name.lower() for name in (*found.get_values_for_type(x509.DNSName), *addresses))


def fingerprint(certificate: x509.Certificate) -> str:
    """The certificate's SHA-256, as browsers and openssl show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
