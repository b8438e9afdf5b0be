"""TLS to a daemon: its certificate is known by who signed it, or by itself."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from dataclasses import dataclass

from appcat.client.transport import connect, no_answer
from appcat.errors import AppcatError, InvalidInput, Unavailable
from appcat.model.remote import Address

PROTOCOLS = ["http/1.1"]


@dataclass(frozen=True)
class TlsDialer:
    """TCP with TLS. A pinned ``fingerprint`` is all that counts then: no authority, no name, no date."""

    url: str
    address: Address
    fingerprint: str = ""
    ca_file: str = ""

    @property
    def host(self) -> str:
        """As in the URL."""
        return self.address.authority

    def dial(self, timeout: float) -> socket.socket:
        """Connect, and know who answers, within ``timeout`` seconds each; raises Unavailable, InvalidInput."""
        context = self._context()
        connection = connect(self.url, self.address, timeout)
        try:
            connection.settimeout(timeout)
            secured = context.wrap_socket(connection, server_hostname=self.address.host)
        except TimeoutError as error:
            connection.close()
            raise no_answer(self.url, timeout) from error
        except OSError as error:  # ssl.SSLError among them
            connection.close()
            raise self._refused(error) from error
        try:
            self._check(secured)
        except BaseException:
            secured.close()
            raise
        secured.settimeout(None)
        return secured

    def lost(self) -> str:
        """Nothing."""
        return ""

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"{self.ca_file} holds no certificates: {error}", hint="give a PEM file", code="invalid-ca-file"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(PROTOCOLS)
        if self.fingerprint:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _check(self, connection: ssl.SSLSocket) -> None:
        """Whether the certificate is the pinned one; nothing has been sent yet but TLS's own greeting."""
        if not self.fingerprint:
            return
        found = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(found, self.fingerprint):
            raise Unavailable(
                f"{self.url} shows another certificate than the one that is known",
                hint="somebody may be in between; if the daemon has a new certificate, compare its fingerprint there",
                details=f"known: {self.fingerprint}\nfound: {found}",
                code="fingerprint-mismatch",
            )

    def _refused(self, error: OSError) -> AppcatError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unavailable(
                f"the certificate of {self.url} is not trusted: {error.verify_message}",
                hint="give --fingerprint, as 'appcat daemon status' prints it there, or --ca-file",
                code="tls-untrusted",
            )
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror or str(error)
        return Unavailable(f"{self.url} speaks no TLS: {reason}", hint="check the port", code="unreachable")
