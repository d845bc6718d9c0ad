"""Measurements that print the figures this project claims, beside those of others on the same machine, in one run."""
