"""Reading strangers' archives in processes that can do little else. `pool.Reader` is the parent's side."""
