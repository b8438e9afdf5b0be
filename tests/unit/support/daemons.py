"""Servers that answer as a daemon might: on a unix socket, over TLS, over WebSockets."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


Answer = tuple[int, Any]
Answering = Callable[[Asked], Answer]


@dataclass
class FakeDaemon:
    """What it was asked; ``drop_after`` so many answers it hangs up without a word, once."""

    answering: Answering
    asked: list[Asked] = field(default_factory=list)
    drop: set[int] = field(default_factory=set)


@contextlib.contextmanager
def http_daemon(path: Path, answering: Answering) -> Iterator[FakeDaemon]:
    """A daemon at a unix socket that answers with status and JSON (or bytes)."""
    daemon = FakeDaemon(answering)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            asked = Asked(self.command, self.path, dict(self.headers), json.loads(body) if body else None)
            daemon.asked.append(asked)
            if len(daemon.asked) in daemon.drop:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, answer = daemon.answering(asked)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingMixIn, UnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield daemon
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1 with its key, as PEM files, and its SHA-256 in hex."""

    path: Path
    key: Path
    fingerprint: str


def make_certificate(directory: Path, name: str = "server") -> Certificate:
    """A new one."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path, key_path = directory / f"{name}.pem", directory / f"{name}.key"
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(path, key_path, built.fingerprint(hashes.SHA256()).hex())


@contextlib.contextmanager
def tls_server(certificate: Certificate) -> Iterator[int]:
    """The port of a server on 127.0.0.1 that shakes hands, echoes what it is sent, and hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted, _ = listener.accept()
                    with contextlib.suppress(OSError), accepted, context.wrap_socket(accepted, True) as secured:
                        secured.sendall(secured.recv(1024))

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
