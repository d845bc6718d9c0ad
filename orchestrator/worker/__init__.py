"""The demonstration model server: a program of its own (`python -m orchestrator.worker`), started like any other model.

It imports nothing of the orchestrator and shares no code with it: what it knows, it learnt from argv and environment.
"""
