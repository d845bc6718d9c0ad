"""A model server reduced to what one test needs: `stand_in.py PORT MODE`, standard library only, up in 0.1 s.

GET on any path answers 200. Modes: `serve`; `stubborn` notes SIGTERM and goes on; `family` has a child in a session of
its own; `in_use` ends at once as if the port were taken; `shared` has 120 MiB in common with three children; `spread`
has 60 MiB in each of four processes; `chatty` writes CHATTY_MB of numbered lines first.
"""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

MIB = 1024 * 1024


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def rest() -> None:
    while True:
        signal.pause()


def prepare(mode: str) -> None:
    if mode == "in_use":
        sys.exit("OSError: [Errno 98] Address already in use")
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"SIGTERM\n"))
    if mode == "family" and os.fork() == 0:
        os.setsid()
        rest()
    if mode == "shared":
        block = os.urandom(120 * MIB)
        if any(os.fork() == 0 for _ in range(3)):
            rest()
        assert block
    if mode == "spread":
        child = any(os.fork() == 0 for _ in range(3))
        block = os.urandom(60 * MIB)
        if child:
            rest()
        assert block
    if mode == "chatty":
        line = "x" * 1_000
        for n in range(int(os.environ["CHATTY_MB"]) * 1_000):
            sys.stdout.write(f"{n} {line}\n")
        sys.stdout.write("\x1b[31mlast\x1b]52;c;aGk=\x07 line\n")


def main() -> None:
    sys.stdout.write("stand-in starts\n")
    sys.stdout.flush()
    prepare(sys.argv[2])
    sys.stdout.flush()
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
