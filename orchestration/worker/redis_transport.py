"""Kombu's Redis transport for queues that anyone with access to the Redis can write to.

Kombu trusts every key: `LPUSH` of one word, a string instead of a list, or an unreadable entry in its table of
unacknowledged messages ends the worker. Here a message is read by `orchestration.worker.message`, bindings are kept in
memory only (each queue is written to directly), and the table of unacknowledged messages is written but never read: a
message that is lost costs some seconds, because the scheduler dispatches its stage again.

Keys carry the identifier of the installation, so that several may share a Redis.

It uses private methods of Kombu; `tests/worker/test_broker_garbage.py` guards them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from queue import Empty
from typing import Any, Final, TypeVar
from weakref import WeakSet

from celery.app.amqp import AMQP
from kombu import Connection
from kombu.connection import ConnectionPool, PooledConnection
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps

from orchestration.log_throttle import LogThrottle
from orchestration.worker.message import InvalidMessage, build_item, log_dropped, read_item

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

MAX_EXPIRED_PER_SWEEP: Final = 100
"""How many expired entries of unacknowledged messages a worker removes at a time, every 100 s."""

_wrong_type = LogThrottle(logger)
_untracked = LogThrottle(logger)


class QoS(redis.QoS):
    """The unacknowledged messages of a channel.

    Whether the broker can store them decides nothing: without a record, a message whose worker dies is not delivered
    again, and the scheduler dispatches its stage again instead.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Record a delivered message."""
        self._track(lambda: redis.QoS.append(self, message, delivery_tag))
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Remove the record of a message."""
        self._track(lambda: self._remove_from_indices(delivery_tag).execute())
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Remove the record of a message, and put it back into its queue if `requeue` is set."""
        if requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
            virtual.QoS.ack(self, delivery_tag)
        else:
            self.ack(delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Put a message back into its queue. What is in memory decides, not what the table says."""
        message = self._delivered.get(tag)
        if message is None:
            return

        def restore() -> None:
            with self.channel.conn_or_acquire(client) as redis_client, redis_client.pipeline() as pipe:
                self._remove_from_indices(tag, pipe)
                push = pipe.lpush if leftmost else pipe.rpush
                push(message.delivery_info["routing_key"], dumps(message._raw))
                pipe.execute()

        self._track(restore)

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 10) -> None:
        """Remove expired records, every `interval` calls. The scheduler found their stages long before."""
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1):
            return

        def remove_expired() -> None:
            expired_before = time.time() - self.visibility_timeout
            with self.channel.conn_or_acquire() as client:
                tags = client.zrange(
                    self.unacked_index_key, "-inf", expired_before, byscore=True, offset=0, num=MAX_EXPIRED_PER_SWEEP
                )
                if tags:
                    with client.pipeline() as pipe:
                        pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()

        self._track(remove_expired)

    def _track(self, change: Callable[[], object]) -> None:
        try:
            self.channel.replace_wrong_types(change, queues=self.channel.active_queues)
        except self.channel.ResponseError as error:
            _untracked.log("The broker cannot store unacknowledged messages (%s); stages run without them", error)


_channels: Final[WeakSet[Channel]] = WeakSet()
"""Every channel that this process has opened, while it exists."""


class Channel(redis.Channel):
    """A channel that delivers only messages to run a stage, and replaces keys of another type."""

    QoS = QoS
    global_keyprefix: str
    # Without fanout, bindings are not stored: every message is pushed to its queue by name.
    supports_fanout = False
    get_table = virtual.Channel.get_table

    def _get_client(self) -> Any:
        # Models can be imported only after Celery has set up Django.
        from orchestration.services.installation import installation_id

        # Kombu calls this once for each channel, after it has set the options and before it uses a key.
        self.global_keyprefix = f"{self.global_keyprefix}{installation_id()}."
        return super()._get_client()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _channels.add(self)

    def close_inherited(self) -> None:
        """Close this process's copy of the socket on which its parent waits for messages."""
        # Kombu creates the client when a channel is first used.
        connection = getattr(vars(self).get("client"), "connection", None)
        if (inherited := getattr(connection, "_sock", None)) is not None:
            inherited.close()

    def replace_wrong_types(self, command: Callable[[], Result], *, queues: Iterable[str]) -> Result:
        """Return the result of a command. If a key that it uses has another type, delete the key and try once more.

        Raises:
            redis.exceptions.ResponseError: if the broker refuses the command for any other reason.
        """
        try:
            return command()
        except self.ResponseError as error:
            if not self._delete_wrong_types(error, queues):
                raise
        return command()

    def _delete_wrong_types(self, error: Exception, queues: Iterable[str]) -> bool:
        """Return whether the error was about a key of another type that is now deleted."""
        if "WRONGTYPE" not in str(error):
            return False
        expected = {self._q_for_pri(queue, priority): b"list" for queue in queues for priority in self.priority_steps}
        expected |= {self.unacked_key: b"hash", self.unacked_index_key: b"zset"}
        deleted = 0
        with self.conn_or_acquire() as client:
            for key, kind in expected.items():
                # Kombu's client adds the prefix to the keys of the commands that Kombu uses; TYPE is not one of them.
                found = client.type(f"{self.global_keyprefix}{key}")
                if found not in (kind, b"none"):
                    deleted += client.delete(key)
                    _wrong_type.log(
                        "Deleted the key %s%s of the broker: it was a %s, expected a %s",
                        self.global_keyprefix,
                        key,
                        bytes_to_str(found),
                        bytes_to_str(kind),
                    )
        return deleted > 0

    def _brpop_read(self, **options: Any) -> bool:
        try:
            reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            # The next poll connects again.
            self.client.connection.disconnect()
            raise
        except self.ResponseError as error:
            if not self._delete_wrong_types(error, self.active_queues):
                raise
            raise Empty from None
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not reply:
            raise Empty
        key, item = reply
        queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        try:
            attempt = read_item(item)
        except InvalidMessage as error:
            log_dropped(error, queue=queue)
        else:
            self.connection._deliver(build_item(attempt, queue=queue), queue)
        return True

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        self.replace_wrong_types(lambda: redis.Channel._put(self, queue, message, **kwargs), queues=[queue])

    def _size(self, queue: str) -> int:
        return int(self.replace_wrong_types(lambda: redis.Channel._size(self, queue), queues=[queue]))


def _close_inherited() -> None:
    """Close the sockets of the parent in a forked process.

    While a copy is open, the parent's event loop still watches a socket that it has closed: when the broker restarts,
    it would read from the next socket, for which nothing has arrived, and receive no messages meanwhile.
    """
    for channel in list(_channels):
        channel.close_inherited()


os.register_at_fork(after_in_child=_close_inherited)


class SentinelChannel(Channel, redis.SentinelChannel):
    """The same, for a Redis that sentinels watch."""


class Transport(redis.Transport):
    """Kombu's transport with our channel."""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """The same, for a Redis that sentinels watch."""

    Channel = SentinelChannel


_TRANSPORTS: Final = {redis.Transport: Transport, redis.SentinelTransport: SentinelTransport}


class BrokerConnection(Connection):
    """A connection that uses our transport where Kombu uses its own for Redis. Other transports are unchanged."""

    def get_transport_cls(self) -> Any:
        """Return the class of the transport for the scheme of the URL."""
        found = super().get_transport_cls()
        return _TRANSPORTS.get(found, found)

    def Pool(self, limit: int | None = None, **kwargs: Any) -> ConnectionPool:  # noqa: N802
        """Return a pool of connections like this one. Messages are published through it."""
        return _ConnectionPool(self, limit, **kwargs)


class _PooledConnection(BrokerConnection, PooledConnection):
    """A connection of a pool."""


class _ConnectionPool(ConnectionPool):
    """A pool, whose class Kombu does not take from its connection."""

    def new(self) -> PooledConnection:
        return _PooledConnection(self, **dict(self.connection._info(resolve=False)))


class BrokerAMQP(AMQP):
    """What a Celery application sends and receives through."""

    Connection = BrokerConnection
