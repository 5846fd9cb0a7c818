"""What a conda package and a conda channel are. Pure: bytes in, values out; no database, network, environment or clock."""
