"""The handlers of all requests: one function per request type of the protocol, each in the module of its subject."""

from realtime.connection.handlers import lists, statuses, subscriptions, tokens
from realtime.connection.handlers.handler_table import Queued, Response, handle

__all__ = ["Queued", "Response", "handle", "lists", "statuses", "subscriptions", "tokens"]
