"""Asynchronous calls: a durable queue beside the ledger, a runner that feeds it into the lanes, webhooks.

`store` keeps, `desk` takes in and tells, `runner` and `call` execute, `courier` and `webhook` notify; `rules` decides,
purely. The gateway sees none of it but the port in `gateway/deferral.py`.
"""
