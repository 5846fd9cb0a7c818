"""One module for each bench; `run` takes a Context and returns tables."""
