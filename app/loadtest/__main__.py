"""`python -m app.loadtest`: the child of `app.loadtest.job`, with one job on stdin."""

from __future__ import annotations

import sys

from app.loadtest.job import serve

if __name__ == "__main__":
    serve(sys.stdin.buffer.readline())
