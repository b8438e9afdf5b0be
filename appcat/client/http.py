"""HTTP to a daemon over whatever dials it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from appcat import __version__
from appcat.client.errors import error_from
from appcat.client.transport import CONNECT_PATIENCE, START_HINT, Dialer
from appcat.errors import AppcatError, Unavailable

VERSION = "/v1"
NO_SUCH_PATH = "no-such-path"
# An answer, once asked for; verbs that take longer are operations, which are asked about again and again.
ANSWER_PATIENCE = 90.0
# A daemon hangs up on a connection that was idle; a change is not sent on one that may just be going.
REST = 2.0
CONNECTIONS = 32

Query = Mapping[str, str | int | float | bool | Sequence[str] | None]


def path(*parts: str) -> str:
    """``/v1/a/b``, with every part quoted whole."""
    return "/".join([VERSION, *(quote(part, safe="") for part in parts)])


class Http:
    """Requests and answers; safe to be used by several threads."""

    def __init__(self, dialer: Dialer, token: str) -> None:
        self.dialer = dialer
        self.patience = ANSWER_PATIENCE
        self.headers = {"Host": dialer.host, "User-Agent": f"appcat/{__version__}"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc: the way is the dialer's
        self._session.mount("http://", _Adapter(dialer))

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def call(
        self,
        method: str,
        where: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The JSON that is answered; raises the error that is answered, Unavailable when there is no answer."""
        with self._send(method, where, query, body, headers, stream=False) as response:
            return _json(response) if response.content else None

    def stream(
        self,
        where: str,
        *,
        method: str = "GET",
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[bytes]:
        """What is answered, in pieces as they come; raises as ``call``, Unavailable when it is cut off."""
        with self._send(method, where, query, None if method == "GET" else {}, headers, stream=True) as response:
            try:
                yield from response.iter_content(None)
            except (requests.RequestException, OSError) as error:
                raise self.lost(error) from error

    def _send(
        self,
        method: str,
        where: str,
        query: Query | None,
        body: object,
        headers: Mapping[str, str] | None,
        *,
        stream: bool,
    ) -> requests.Response:
        """The answer to a request that was granted. A look is tried twice, since it changes nothing."""
        tries = 2 if method == "GET" else 1
        for last in range(1, tries + 1):
            try:
                response = self._session.request(
                    method,
                    f"http://{self.dialer.host}{where}",
                    params=_query(query or {}),
                    json=body,
                    headers={**self.headers, **(headers or {})},
                    # Of a stream the daemon may be silent for as long as the vm is.
                    timeout=(CONNECT_PATIENCE, None if stream else self.patience),
                    stream=stream,
                    allow_redirects=False,
                )
                break
            except requests.Timeout as error:
                raise self._silent() from error
            except (requests.RequestException, OSError) as error:
                if last == tries:
                    raise self.lost(error) from error
        if response.status_code >= 300:
            raise self._refused(response)
        return response

    def _refused(self, response: requests.Response) -> AppcatError:
        with response:
            try:
                body = response.json()
            except (ValueError, requests.RequestException):
                body = None
        return self.refusal(response.status_code, body)

    def refusal(self, status: int, body: object) -> AppcatError:
        """The error that an answer with an HTTP status of 300 and more means."""
        code = body.get("code") if isinstance(body, dict) else None
        if (status == 404 and code is None) or code == NO_SUCH_PATH:
            return AppcatError(
                f"what answers at {self.dialer.url} does not know this request",
                hint="is it an appcat daemon, and as new as this appcat? 'appcat version' there tells",
                code="bad-answer",
            )
        return error_from(body, status)

    def _silent(self) -> AppcatError:
        return Unavailable(
            f"the daemon at {self.dialer.url} did not answer within {self.patience:g} s",
            hint="appcat daemon status",
            code="unreachable",
        )

    def lost(self, error: Exception) -> AppcatError:
        """The error that a connection which ended without an answer means."""
        words = self.dialer.lost()
        last = words.splitlines()[-1] if words else ""
        return Unavailable(
            f"the connection to {self.dialer.url} was lost" + (f": {last}" if last else ""),
            hint=START_HINT,
            details=words or str(error),
            code="unreachable",
        )


def url_query(query: Query) -> str:
    """``?key=value`` for the end of a URL; nothing for nothing."""
    pairs = _query(query)
    return f"?{urlencode(pairs)}" if pairs else ""


def _query(query: Query) -> list[tuple[str, str]]:
    """Pairs for the URL; None leaves a key out, a sequence repeats it."""
    pairs: list[tuple[str, str]] = []
    for key, value in query.items():
        if value is None:
            continue
        many = [value] if isinstance(value, str | int | float) else value
        pairs += [(key, str(one).lower() if isinstance(one, bool) else str(one)) for one in many]
    return pairs


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise AppcatError(
            "the daemon answered with something else than JSON", hint="is it an appcat daemon?", code="bad-answer"
        ) from error


class _Connection(HTTPConnection):
    """HTTP on a socket that somebody else has connected."""

    dialer: Dialer
    used = 0.0

    def _new_conn(self) -> socket.socket:
        return self.dialer.dial(CONNECT_PATIENCE)


class _Pool(HTTPConnectionPool):
    """Connections to one daemon. One that has rested is not used again: the daemon may be hanging up right now."""

    ConnectionCls = _Connection

    def __init__(self, dialer: Dialer) -> None:
        super().__init__("appcat", maxsize=CONNECTIONS)
        self._dialer = dialer

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        connection.dialer = self._dialer
        return connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        if time.monotonic() - connection.used > REST:
            connection.close()  # it dials again when it is used
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.used = time.monotonic()
        super()._put_conn(conn)


class _Adapter(HTTPAdapter):
    """Sends everything to one daemon."""

    def __init__(self, dialer: Dialer) -> None:
        super().__init__(max_retries=0)
        self._pool = _Pool(dialer)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        """The one pool there is; TLS is below it."""
        return self._pool

    def get_connection(self, *_: Any, **__: Any) -> Any:
        """The same, for requests before 2.32."""
        return self._pool

    def close(self) -> None:
        """Hang up."""
        self._pool.close()
        super().close()
