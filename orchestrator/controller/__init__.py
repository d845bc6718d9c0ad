"""The single owner: events in, `core.step`, effects out. All state changes go through `Controller.handle`.

The pieces around it each do one kind of effect and report back as events: `journal` writes the ledger, `crew` talks to
the engine, `routes` edits the routing table. They never call one another and never decide.
"""
