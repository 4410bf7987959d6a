"""Owns the measurement of Redis pub/sub on a Unix socket. Runs as a contestant: `redis_peer PORT RECEIVERS`."""

import contextlib
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from typing import Any

from benchmarks.messenger_peers.peer import Receive, Reply, Transport, serve

redis = import_module("redis")  # not by statement: mypy has to pass where it is not installed
START_TIMEOUT = 10.0  # s
SERVER = (
    "redis-server", "--port", "0", "--save", "", "--appendonly", "no",
    # By default a subscriber with 32 MiB waiting for it is cut off: here everything has to arrive.
    "--client-output-buffer-limit", "pubsub 0 0 0",
)  # fmt: skip


class RedisTransport(Transport):
    """Channels `one` (the first receiver), `all` and `back`; what is sent leaves in pipelines at `flush`."""

    def __init__(self, receivers: int, folder: str) -> None:
        self.receivers = receivers
        self._path = f"{folder}/redis.sock"
        command = [*SERVER, "--unixsocket", self._path, "--dir", folder]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError), self._client() as client:
            return bool(client.ping())
        return False

    def _client(self) -> Any:
        return redis.Redis(unix_socket_path=self._path)

    def _subscribe(self, *channels: str) -> Receive:
        """Gives the function that waits for the next message on `channels`; they are subscribed when this returns."""
        subscriber = self._client().pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe(*channels)
        for _ in channels:
            subscriber.parse_response()
        return lambda: bytes(subscriber.parse_response()[2])

    def open_sender(self, *, replies: bool) -> None:
        self._pipeline = self._client().pipeline(transaction=False)
        if replies:
            self._wait_reply = self._subscribe("back")

    def open_receiver(self, index: int) -> tuple[Receive, Reply]:
        client = self._client()
        receive = self._subscribe("all", *(("one",) if index == 0 else ()))
        while not client.pubsub_numsub("back")[0][1]:
            time.sleep(0.01)
        return receive, lambda message: client.publish("back", message)

    def send(self, message: bytes) -> None:
        self._pipeline.publish("one", message)

    def broadcast(self, message: bytes) -> None:
        self._pipeline.publish("all", message)

    def flush(self) -> None:
        self._pipeline.execute()

    def next_reply(self) -> bytes:
        return self._wait_reply()

    def close(self) -> None:
        self._server.terminate()
        self._server.wait(START_TIMEOUT)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="eggcluster-redis-") as folder:
        serve(RedisTransport(int(sys.argv[2]), folder), int(sys.argv[1]))
