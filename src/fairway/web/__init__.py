"""HTTP, and nothing else: parse, authorise, call the registry, answer."""
