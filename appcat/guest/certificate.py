"""Certificates for guests and for who may come to them: X.509 with keys on the curve P-256.

An authority signs for both sides, so each side believes whom it signed for and nobody else (RFC 5280; the roles are
those of RFC 5280, 4.2.1.12).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appcat.errors import Broken
from appcat.guest.identity import file_statement

# Clocks differ.
SLACK = timedelta(days=1)
AUTHORITY_LIFE = timedelta(days=20 * 365)
LIFE = timedelta(days=825)
RENEW_BEFORE = timedelta(days=90)


class Role(Enum):
    """Which side of a connection a certificate is for."""

    SERVER = ExtendedKeyUsageOID.SERVER_AUTH
    CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    @property
    def is_fresh(self) -> bool:
        """Whether both can be read and the certificate has some time to go."""
        try:
            found, key = _read(self)
        except ValueError:
            return False
        fits = found.public_key() == key.public_key()
        return fits and datetime.now(UTC) < found.not_valid_after_utc - RENEW_BEFORE


def new_authority(name: str) -> Pair:
    """A new authority, which signs certificates but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = _builder(subject, subject, key, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Pair, name: str, role: Role, alternatives: Iterable[str] = ()) -> Pair:
    """A certificate for ``name`` and a key of its own; ``alternatives`` are host names and addresses.

    Raises Broken when the authority cannot be read.
    """
    try:
        above, signer = _read(authority)
    except ValueError as error:
        raise Broken(
            f"the authority of this home cannot be read: {error}",
            hint="remove the directory tls of the home: a new one is made, which vms know from their next start on",
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), above.subject, key, LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([role.value]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if names := [general_name(text) for text in alternatives]:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _pair(builder.sign(signer, hashes.SHA256()), key)


def certificate_statements(directory: str, authority: bytes, own: Pair) -> Sequence[str]:
    """What puts a certificate into a guest: host.crt and host.key are its own, ca.crt says whom it believes."""
    return [
        file_statement(0o644, f"{directory}/ca.crt", authority),
        file_statement(0o600, f"{directory}/host.key", own.key),
        file_statement(0o644, f"{directory}/host.crt", own.certificate),
    ]


def _read(pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Raises ValueError when they are no certificate and a key of the kind that is made here."""
    try:
        key = ser.load_pem_private_key(pair.key, None)
    except TypeError as error:  # it wants a passphrase
        raise ValueError("the key is encrypted") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is of another kind")
    return x509.load_pem_x509_certificate(pair.certificate), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), now - SLACK, now + life
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(certificate.public_bytes(ser.Encoding.PEM), pem(key))


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as a file has it, without a passphrase."""
    return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def general_name(text: str) -> x509.GeneralName:
    """A host name or an address, as a certificate has it."""
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
