"""Fairway: the server with which a team hosts its own conda channels."""
