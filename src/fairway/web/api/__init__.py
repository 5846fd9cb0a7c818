"""The JSON API under /api/v1. Handlers parse, authorise through the registry, call it, and answer."""
