"""Encode and decode every message between a client and the server. Pure: no I/O and no Django.

`requests` turns a text frame from a client into a typed request, or raises a `RequestError`. `messages` turns a typed
message into the bytes of a text frame. No other package reads or writes JSON. Import from the submodules.
"""
