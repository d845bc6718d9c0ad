"""One worker more whenever the oldest waiter has waited too long (RunPod's QUEUE_DELAY), until all have a slot."""

from __future__ import annotations

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import QueueDelay
from orchestrator.core.scaling.view import Decision, Memory, Observation, Reason


def by_queue_delay(policy: QueueDelay, memory: Memory, seen: Observation) -> Decision:
    """Rules, tried in this order:

    1. Nobody waits: want what is occupied.
    2. Somebody waits and there is no capacity at all: the first worker, at once.
    3. There is, or is starting, a slot for every request, waiting or running: hold. A delay that is over many times in
       one cold start would else start a worker each time, most of which never serve.
    4. The oldest wait exceeds the delay, and the last addition is a delay ago: one more than there is.
    5. Otherwise hold, and ask again when the delay will be over.
    """
    live = seen.live
    delay_ns = int(policy.seconds * SECOND_NS)
    if seen.queued == 0:
        occupied = -(-seen.running // seen.slots)
        return Decision(occupied, Reason("rest", "nobody waits, {running} running", {"running": seen.running}), memory)
    if live == 0:
        first = Reason("first", "{queued} waiting and no worker: the first one at once", {"queued": seen.queued})
        return Decision(1, first, Memory(seen.now_ns), seen.now_ns + delay_ns)
    since_added_ns = seen.now_ns - memory.added_ns if memory.added_ns is not None else delay_ns
    numbers = {
        "queued": seen.queued, "running": seen.running, "slots": seen.slots, "wait_s": seen.oldest_wait_ns / SECOND_NS,
        "limit_s": policy.seconds, "live": live,
    }  # fmt: skip
    wait = "oldest of {queued} waits {wait_s:.1f} s, limit {limit_s:g} s: "
    if seen.queued + seen.running <= live * seen.slots:
        # Only another request can change that, and it is heard of when it comes.
        enough = "{queued} waiting + {running} running fit into {live} x {slots} slots: hold, whatever the wait"
        return Decision(live, Reason("enough", enough, numbers), memory)
    if seen.oldest_wait_ns >= delay_ns and since_added_ns >= delay_ns:
        return Decision(
            live + 1, Reason("add", wait + "one more than {live}", numbers), Memory(seen.now_ns), seen.now_ns + delay_ns
        )
    wake_ns = seen.now_ns + max(delay_ns - seen.oldest_wait_ns, delay_ns - since_added_ns, 0)
    return Decision(live, Reason("hold", wait + "hold at {live}", numbers), memory, wake_ns)
