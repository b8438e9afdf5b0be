"""A proxy and authorities of the host, as guests come to know them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cat import Cat
from tests.unit.support.certificates import authority
from tests.vm.test_terminal import person

pytestmark = pytest.mark.vm

PAGE = "http://nowhere.invalid/page"  # no name server knows the host: only a proxy can answer
CREDENTIALS = "bWU6aHVudGVyMg=="  # me:hunter2
STORE = "/etc/ssl/certs/ca-certificates.crt"


@dataclass
class Proxy:
    """An HTTP proxy on this computer's loopback, and what it was asked for."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def http_proxy() -> Iterator[Proxy]:
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proxy.asked.append((self.path, self.headers.get("Proxy-Authorization", "")))
            body = f"by proxy: {self.path}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy.url = f"http://me:hunter2@127.0.0.1:{server.server_port}"
        try:
            yield proxy
        finally:
            server.shutdown()


def fetched(cat: Cat, name: str) -> str:
    return cat("vm", "exec", name, "--", "wget", "-qO-", PAGE)


def files_with(directory: Path, text: bytes) -> set[str]:
    found = set()
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20 and text in path.read_bytes():
            found.add(path.name)
    return found


def test_guests_know_proxy_and_authorities(cat: Cat, tmp_path: Path) -> None:
    certificate, key = authority()
    (tmp_path / "ca.pem").write_bytes(certificate + key)
    cat("config", "set", "ca-certificates", str(tmp_path / "ca.pem"))
    with http_proxy() as proxy:
        cat("config", "set", "proxy", "-", stdin=f"{proxy.url}\n")
        seen = proxy.url.replace("127.0.0.1", "10.0.2.2")
        cat("vm", "run", "web")
        assert fetched(cat, "web") == f"by proxy: {PAGE}\n"
        assert proxy.asked == [(PAGE, f"Basic {CREDENTIALS}")]

        wanted = f"{seen} {seen} localhost,127.0.0.1,::1,host.appcat.internal,.appcat\n"
        say = 'echo "$http_proxy" "$HTTPS_PROXY" "$no_proxy"'
        assert cat.exec("web", say) == wanted
        assert cat.exec("web", f"env -i sh -lc '{say}'") == wanted
        assert f"http_proxy={seen}\n" in cat.exec("web", "cat /etc/environment")
        with person(cat, "vm", "exec", "-it", "web", "--", "sh", "-c", 'echo "[$http_proxy]"') as me:
            me.see(f"[{seen}]")
            assert me.leave() == 0
        assert cat.exec("web", f"cat {STORE}").encode() == certificate

        # A clone of what runs, one that begins in a template, and one that keeps who it is.
        cat("vm", "clone", "web", "copy")
        cat("vm", "run", "begun", "--instant")
        cat("vm", "clone", "begun", "fork", "--fork")
        for name in ("copy", "begun", "fork"):
            assert fetched(cat, name) == f"by proxy: {PAGE}\n"
            assert cat.exec(name, f"cat {STORE}").encode() == certificate

        assert "hunter2" not in cat("config", "list") + cat("config", "list", "--json") + cat("events", "--json")
        assert cat("config", "get", "proxy") == f"{proxy.url}\n"
        assert files_with(cat.home, b"hunter2") == {"config.json"}

    cat("config", "unset", "proxy")
    cat("config", "unset", "ca-certificates")
    cat("vm", "restart", "web")
    assert cat.exec("web", say) == "  \n"
    assert cat.exec("web", f"cat /etc/profile.d/*.sh /etc/environment {STORE} 2>/dev/null || true") == ""


def test_the_host_is_asked_at_each_start(cat: Cat) -> None:
    cat("config", "set", "proxy", "host")
    cat("config", "set", "no-proxy", ".lan")
    cat.extra.update(https_proxy="localhost:3128", NO_PROXY="b.example")
    cat("vm", "run", "web")
    say = 'echo "$http_proxy" "$https_proxy" "${no_proxy##*.appcat,}"'
    assert cat.exec("web", say) == " http://10.0.2.2:3128 .lan,b.example\n"
    cat.extra["https_proxy"] = "no url"
    cat.fails("invalid-url", "vm", "restart", "web", "--json")
    del cat.extra["https_proxy"]
    cat("vm", "start", "web")
    assert cat.exec("web", say) == "  \n"


def test_authorities_that_are_gone_are_no_reason_to_start_without(cat: Cat, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority()[0])
    cat("config", "set", "ca-certificates", str(path))
    cat("vm", "create", "web")
    path.unlink()
    refused = cat.fails("invalid-ca-file", "vm", "start", "web", "--json")
    assert "config unset ca-certificates" in refused["hint"]
    cat("config", "unset", "ca-certificates")
    cat("vm", "start", "web")
