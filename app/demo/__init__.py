"""`gpudeck demo`: a tour of a real endpoint on a private orchestrator, headless or behind the dashboard.

`scenario`, `timeline` and `report` are pure; `tour` walks through the scenario; `home` is the private place where.
"""
