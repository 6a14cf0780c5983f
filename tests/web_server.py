"""A web server that misbehaves as its paths say: web_server.py FOLDER; prints its port.

A process of its own: GDAL holds on to the interpreter while it asks for some files, and would wait for itself.

``/ok/a.tif`` is the file a.tif of the folder; ``/404/a.tif`` has that status, for ever, ``/503x2/a.tif`` for two
requests; ``/hang/`` says nothing, ``/drip/`` sends a byte now and then, ``/cut2/`` breaks off in the middle of two
answers, ``/norange/`` sends whole files only. ``/asked/503x2`` tells how often a.tif was asked for under that name.
"""

from __future__ import annotations

import re
import sys
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ASKED: Counter[str] = Counter()


class Moody(BaseHTTPRequestHandler):
    """One request."""

    wbufsize = 1 << 16

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        _, mood, name = self.path.split("/")
        file = Path(sys.argv[1]) / name
        if mood == "asked":
            return self.answer(str(ASKED[name]).encode())
        if not name or not file.is_file():
            return self.send_error(404)
        ASKED[mood] += 1
        status = re.fullmatch(r"(\d{3})(?:x(\d+))?", mood)
        if status and ASKED[mood] <= int(status[2] or sys.maxsize):
            return self.send_error(int(status[1]))
        if mood == "hang":
            time.sleep(60)
            return None
        return self.answer(file.read_bytes(), mood)

    def answer(self, data: bytes, mood: str = "") -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        part = data
        if asked and mood != "norange":
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            if first >= len(data):
                return self.send_error(416)
            part = data[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{zlib.crc32(data)}"')
        self.end_headers()
        if self.command == "HEAD":
            return None
        broken = mood.startswith("cut") and asked is not None and int(asked[1]) > 0
        if broken:
            ASKED["answers " + mood] += 1
            broken = ASKED["answers " + mood] <= int(mood[3:] or sys.maxsize)
        for byte in part if mood == "drip" else ():
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.2)
        if mood != "drip":
            self.wfile.write(part[: len(part) // 2] if broken else part)
        return None


class Server(ThreadingHTTPServer):
    """Does not mind clients that hang up."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Moody) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
