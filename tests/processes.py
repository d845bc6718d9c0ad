"""What still runs on behalf of a directory."""

from __future__ import annotations

from pathlib import Path

from app.spawn import process_runs


def holders(directory: Path) -> list[int]:
    """Processes whose environment or command line mentions `directory`, in order of their ids."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in text and process_runs(int(entry.name)):
            found.append(int(entry.name))
    return sorted(found)
