"""What the two processes say to each other, and nothing else.

`app` may import this package and no other part of the orchestrator. Every model is frozen; every amount of money is an
integer number of micro-dollars (suffix `_u`), every rate is micro-dollars per hour (`_uh`), every instant and duration
is in nanoseconds (`_ns`) unless its name says otherwise.
"""
