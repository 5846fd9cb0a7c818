"""Fairway: the server with which a team hosts its own conda channels."""

__version__ = "0.1.0"
