"""Load on an endpoint: when requests are due, sending them in a process of its own, and what to conclude."""
