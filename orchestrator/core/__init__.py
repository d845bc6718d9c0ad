"""Every decision, no effect: lifecycle, routing, scaling, placement, billing, credit.

`step(state, event, now) -> (state, effects)` is the whole interface of the control plane; `lane.Lane` is that of the
data plane. Nothing here reads a clock, touches a file or a socket, starts a thread or logs: `now` is an argument, and
what should happen is returned as data.
"""
