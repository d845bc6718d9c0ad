"""A feed of snapshots: whole at first, then what changed. Both ends keep the snapshot before; neither needs a clock."""

from __future__ import annotations

from pydantic_core import to_json

from orchestrator.contract.difference import Misfit, applied, differing
from orchestrator.contract.frames import Changed, Feed
from orchestrator.contract.snapshot import Snapshot
from orchestrator.contract.steps import Steps


def told(before: Snapshot | None, after: Snapshot) -> Steps[Feed | Changed]:
    """The frame that takes a reader from `before` (None: nothing yet) to `after`."""
    if before is None:
        return Feed(snapshot=after)
    changes = yield from differing(before, after)
    return Changed(since=before.seq, changes=changes)


def encoded(frame: Feed | Changed) -> Steps[bytes]:
    """The frame as it goes over the wire, without the end of its line; a whole snapshot item by item."""
    if isinstance(frame, Changed):
        return frame.model_dump_json().encode()
    fields = []
    for name, value in frame.snapshot:
        if isinstance(value, tuple):
            items = []
            for item in value:
                items.append(to_json(item))
                yield
            fields.append(b'"%s":[%s]' % (name.encode(), b",".join(items)))
        else:
            fields.append(b'"%s":%s' % (name.encode(), to_json(value)))
    return b'{"kind":"%s","snapshot":{%s}}' % (frame.kind.encode(), b",".join(fields))


def heard(before: Snapshot | None, frame: Feed | Changed) -> Snapshot:
    """The snapshot after `frame`. What did not change is the same object as in `before`, so comparing the two is cheap.

    Raises ValueError (Misfit, or pydantic's) for changes of another snapshot: the reader has to begin anew.
    """
    if isinstance(frame, Feed):
        return frame.snapshot
    if before is None or before.seq != frame.since:
        known = "nothing" if before is None else f"snapshot {before.seq}"
        raise Misfit(f"changes since snapshot {frame.since}, and {known} is known")
    return applied(before, frame.changes)
