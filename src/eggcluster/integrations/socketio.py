"""A client manager for python-socketio over the messenger: emits, rooms and callbacks reach the clients of all workers.

`socketio.AsyncServer(async_mode="asgi", client_manager=ClusterManager())`. See docs/integrations.md. Runs in the app
workers, and with `write_only=True` in the agent.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any

from eggcluster import messenger
from eggcluster.integrations import not_installed

try:
    from socketio.async_pubsub_manager import AsyncPubSubManager
except ModuleNotFoundError as error:
    if error.name != "socketio":
        raise
    raise not_installed("socketio", "socketio") from None


class ClusterManager(AsyncPubSubManager):  # type: ignore[misc]  # python-socketio has no types
    """python-socketio's manager for several servers. What one of them does to clients that are not its own is a message
    to all app workers, in the order of its calls.

    `channel` keeps two servers of one application apart. With `write_only=True` it only emits. Data that the messenger
    cannot carry raises NotSerializable. A worker that has had no client yet ignores what it gets.
    """

    name = "eggcluster"

    def __init__(self, channel: str = "socketio", write_only: bool = False, **options: Any) -> None:
        self._action = f"socketio:{channel}"
        self._received: asyncio.Queue[tuple[dict[str, Any], asyncio.Future[None]]] = asyncio.Queue()
        self._listens = False
        super().__init__(channel=channel, write_only=write_only, **options)
        if not write_only:
            messenger.on(self._action, self._receive)

    @property
    def host_id(self) -> str:
        """The name of this server among the others. It differs in processes that were forked after the import, too, as
        with `--preload`."""
        return f"{self._made_by_library}-{os.getpid()}"

    @host_id.setter
    def host_id(self, made: str) -> None:
        self._made_by_library = made

    async def _publish(self, data: dict[str, Any]) -> None:
        messenger.send_to_app(self._action, data)

    async def _receive(self, data: dict[str, Any]) -> None:
        """Hand a message to `_listen`, and return when it has been dealt with: so the messenger stops reading when this
        server does not keep up."""
        if self._listens:
            done = asyncio.get_running_loop().create_future()
            self._received.put_nowait((data, done))
            await done

    async def _listen(self) -> AsyncGenerator[dict[str, Any], None]:
        self._listens = True
        done = None
        try:
            while True:
                data, done = await self._received.get()
                yield data
                _end(done)
        finally:
            self._listens = False
            if done is not None:
                _end(done)
            while not self._received.empty():
                _end(self._received.get_nowait()[1])


def _end(done: "asyncio.Future[None]") -> None:
    if not done.done():  # else its handler was cancelled
        done.set_result(None)
