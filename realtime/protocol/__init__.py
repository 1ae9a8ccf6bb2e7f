"""Encode and decode every message between a client and the server. It does no I/O and does not need Django.

`requests` turns a text frame from a client into a typed request, or raises a `RequestError`. `messages` turns a typed
message into the bytes of a text frame. No other package reads or writes JSON. Import from the submodules.
"""
