"""Measurements of Fairway beside its peers and the machine's limits: `./dev bench`. Nothing here is asserted."""
