"""An S3 API that fails on demand: a proxy before moto's server."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ERRORS = {
    400: "RequestTimeout",
    401: "InvalidToken",
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "OperationAborted",
    412: "PreconditionFailed",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}
Fails = Callable[[str, str], bool]


class FlakyStorage:
    """Passes requests on to a server, but for those that are to fail.

    Args:
        host: of the server.
        port: of the server.

    Attributes:
        how: a status, or `reset`, `silent` (no answer), `truncated` (half of the body), `flipped`
            (another body of the same length).
        fails: of method and path of a request, whether it fails.
        failed: how many have.
        healed: whether everything is passed on; who gets no answer waits for it.
    """

    def __init__(self, host: str, port: int) -> None:
        self.how: int | str = 0
        self.fails: Fails = lambda *_: False
        self.failed = 0
        self.healed = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, host, port))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def set(self, how: int | str, fails: Fails) -> None:
        """Fail in a way from now on."""
        self.how, self.fails, self.failed = how, fails, 0
        self.healed.clear()

    def heal(self) -> None:
        """Pass everything on."""
        self.fails = lambda *_: False
        self.healed.set()

    def fate(self, method: str, path: str) -> int | str:
        """How the request at hand fails; 0 where it does not."""
        with self._lock:
            if not self.fails(method, path):
                return 0
            self.failed += 1
            return self.how

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler(storage: FlakyStorage, host: str, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self._body()
            fate = storage.fate(self.command, self.path)
            if isinstance(fate, int) and fate:
                self._refuse(fate)
                return
            if fate == "reset":
                linger = struct.pack("ii", 1, 0)  # a close that sends RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()
                return
            if fate == "silent":
                storage.healed.wait()
                self.close_connection = True
                return
            self._pass_on(body, str(fate or ""))

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _refuse(self, status: int) -> None:
            code = ERRORS[status]
            text = f"<Error><Code>{code}</Code><Message>made to fail</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def _pass_on(self, body: bytes, how: str) -> None:
            connection = http.client.HTTPConnection(host, port, timeout=300)
            sent = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
            sent["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if how == "flipped" and content:
                content = content[:-1] + bytes([content[-1] ^ 1])
            self.send_response(answer.status)
            length = answer.headers.get("Content-Length", str(len(content)))
            for name, value in answer.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if how == "truncated":
                self.close_connection = True
                content = content[: len(content) // 2]
            if self.command != "HEAD":
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    return Handler
