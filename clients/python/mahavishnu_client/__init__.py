"""The client of Mahavishnu: events, requests, and states that stay true over every reconnect."""

from __future__ import annotations

from mahavishnu_client.chunks import Chunk, StreamClosed, StreamGap, StreamReset
from mahavishnu_client.client import Client, connect
from mahavishnu_client.connection_state import ConnectionState
from mahavishnu_client.errors import (
    AuthenticationError,
    ClientClosed,
    ClientError,
    ConnectionLost,
    Forbidden,
    NotFound,
    ProtocolError,
    RequestFailed,
    RequestTimeout,
)
from mahavishnu_client.events import Event, HistoryLost, Position, UnknownEvent
from mahavishnu_client.options import Options
from mahavishnu_client.state_table import StateStream
from mahavishnu_client.streams import ChunkStream, EventStream
from mahavishnu_client.views import LiveOverview, LivePool, LiveRun, LiveWorker

__version__ = "1.0.0"

__all__ = [
    "AuthenticationError",
    "Chunk",
    "ChunkStream",
    "Client",
    "ClientClosed",
    "ClientError",
    "ConnectionLost",
    "ConnectionState",
    "Event",
    "EventStream",
    "Forbidden",
    "HistoryLost",
    "LiveOverview",
    "LivePool",
    "LiveRun",
    "LiveWorker",
    "NotFound",
    "Options",
    "Position",
    "ProtocolError",
    "RequestFailed",
    "RequestTimeout",
    "StateStream",
    "StreamClosed",
    "StreamGap",
    "StreamReset",
    "UnknownEvent",
    "connect",
]
