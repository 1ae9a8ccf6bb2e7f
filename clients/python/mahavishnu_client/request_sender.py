"""Requests as coroutines: sent, repeated if the server limits them, and answered in a limited time."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, TypeVar

import msgspec

from mahavishnu_client.errors import ClientError, ConnectionLost, ProtocolError, RequestTimeout
from mahavishnu_client.options import Options
from mahavishnu_client.request_table import set_answer
from mahavishnu_client.requests import Requests
from mahavishnu_client.session import Session

T = TypeVar("T")


class RequestSender(Requests):
    """The requests of a client."""

    _options: Options

    @property
    def _session(self) -> Session:
        raise NotImplementedError

    async def request(self, name: str, data: dict[str, Any], *, timeout_seconds: float | None = None) -> Any:
        """Send any request, and return the data of its response as it is in JSON.

        A request that the server limits is sent again after the time that it gives.

        Raises:
            RequestFailed: if the server answers with an error.
            ConnectionLost: if the connection ends first. `maybe_done` is whether the request was sent.
            RequestTimeout: if there is no answer in time.
        """
        return msgspec.json.decode(await self._request(name, data, timeout_seconds=timeout_seconds))

    async def _call(self, name: str, data: dict[str, Any], response: type[T], timeout_seconds: float | None) -> T:
        raw = await self._request(name, data, timeout_seconds=timeout_seconds)
        try:
            return msgspec.json.decode(raw, type=response)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"The server sent an invalid response to {name}: {error}") from None

    async def _request(self, name: str, data: dict[str, Any], *, timeout_seconds: float | None = None) -> msgspec.Raw:
        loop = asyncio.get_running_loop()
        seconds = self._options.request_timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline = loop.time() + seconds
        while True:
            session = self._session
            answer: asyncio.Future[msgspec.Raw] = loop.create_future()
            request_id = session.requests.add(
                name, data, partial(set_answer, answer), is_connected=session.welcome is not None
            )
            try:
                async with asyncio.timeout_at(deadline):
                    return await answer
            except TimeoutError:
                if session.requests.forget(request_id):
                    raise RequestTimeout(f"No answer to {name} within {seconds:g} s") from None
                raise ConnectionLost(f"No connection for {name} within {seconds:g} s", maybe_done=False) from None
            except ClientError as error:
                retry_after_ms = getattr(error, "retry_after_ms", None)
                if retry_after_ms is None or loop.time() + retry_after_ms / 1000 >= deadline:
                    raise
                await asyncio.sleep(retry_after_ms / 1000)
            finally:
                session.requests.forget(request_id)
