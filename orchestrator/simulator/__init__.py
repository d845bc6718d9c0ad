"""The same decisions in virtual time: what a policy would do and cost on given traffic."""
