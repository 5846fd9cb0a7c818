"""Asking other servers: the only code that opens a connection to an address somebody gave.

`client` is what the rest of Fairway uses; `addresses` says which address may be asked, `wire` connects to the very
address that was judged, `credentials` are bound to one server, `transfer` brings a file for many who wait for it.
"""
