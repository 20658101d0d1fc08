"""As much of the Hugging Face hub's API as reading one data set takes, on this machine."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

COMMIT = "0" * 40


class Hub:
    """Serves the files of a folder as data set `me/speech` until it is closed."""

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.folder = folder  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """The server keeps quiet."""

    def do_GET(self) -> None:
        folder: Path = self.server.folder  # type: ignore[attr-defined]
        path = urlparse(self.path).path
        _, found, name = path.partition("/resolve/main/")
        if path.startswith("/api/datasets/me/speech/tree/"):
            self._json([_entry(file) for file in sorted(folder.iterdir())])
        elif path.startswith("/api/datasets/me/speech"):
            self._json({"id": "me/speech", "sha": COMMIT, "siblings": []})
        elif found and (folder / name).is_file():
            content = (folder / name).read_bytes()
            asked = self.headers.get("Range")
            if asked is None:
                self._send(200, content)
                return
            first, last = asked.removeprefix("bytes=").split("-")
            part = content[int(first) : int(last) + 1]
            self._send(206, part, {"Content-Range": f"bytes {first}-{last}/{len(content)}"})
        else:
            self._send(404, b"{}")

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        given = {"X-Repo-Commit": COMMIT, "ETag": '"made-up"', **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _entry(file: Path) -> dict[str, Any]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT}
