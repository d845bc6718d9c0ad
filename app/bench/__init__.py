"""Measurements of the front end itself, on a made-up deck that a server of its own plays."""
