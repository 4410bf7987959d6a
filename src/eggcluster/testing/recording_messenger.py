"""A messenger without a cluster, which records what is sent. Runs in the user's tests."""

import inspect
from dataclasses import dataclass
from typing import Any

from eggcluster.errors import MessengerClosed
from eggcluster.ipc.frame import HEADER_SIZE, decode_message, encode_frame
from eggcluster.ipc.handlers import Handlers
from eggcluster.ipc.messenger import Messenger
from eggcluster.model.messages.message import FrameKind, Receiver, Target, check_action
from eggcluster.model.messages.role import Role

NO_ANSWER = 'no cluster runs here, and sent_messages.answers has no answer to "{0}"; set sent_messages.answers["{0}"]'
_NAMES = {
    Target.MASTER: "master",
    Target.AGENT: "agent",
    Target.PARENT: "parent",
    Target.APPS: "app",
    Target.ALL: "all",
    Target.RANDOM: "random",
}


@dataclass(frozen=True)
class SentMessage:
    """A message as its receivers would get it: a tuple in `data` has become a list.

    `to` is the receiver: "agent", "app", "all", "random", "parent", "master", "app#2", or a worker id. Of a request,
    "app" is one of the app workers.
    """

    action: str
    data: Any = None
    to: Receiver = "app"
    is_request: bool = False


class SentMessages(list[SentMessage]):
    """What the messenger has been given to send, in order.

    `answers` holds the answer to each request by its action: a value, or a function, plain or async, that gets the data
    and returns the answer or raises. A request without an answer raises MessengerClosed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {}

    def of(self, action: str) -> list[SentMessage]:
        """Return the messages of one action, in order."""
        return [message for message in self if message.action == action]

    async def answer(self, action: str, data: Any) -> Any:
        """Return the answer to a request; raise what its function raises, MessengerClosed if there is none."""
        if action not in self.answers:
            raise MessengerClosed(NO_ANSWER.format(action))
        answer = self.answers[action]
        result = answer(data) if callable(answer) else answer
        return await result if inspect.isawaitable(result) else result


class RecordingMessenger(Messenger):
    """Adds each message to `sent`, after the checks of a real messenger. Nothing leaves the process."""

    def __init__(self, handlers: Handlers, sent: SentMessages) -> None:
        super().__init__(Role.APP, handlers)
        self._sent = sent

    def _send(self, action: str, data: Any, target: Target, target_id: int = 0) -> None:
        check_action(action)
        self._record(FrameKind.MESSAGE, action, data, target, target_id)

    async def drain(self) -> None:
        """Return: what was sent has been recorded."""

    async def _request(self, action: str, data: Any, target: Target, target_id: int, timeout: float) -> Any:
        received = self._record(FrameKind.REQUEST, action, data, target, target_id)
        return await self._sent.answer(action, received)

    def _record(self, kind: FrameKind, action: str, data: Any, target: Target, target_id: int) -> Any:
        """Record a message, and return its data as its receivers would get it."""
        frame = encode_frame(kind, target, (action, data), max_bytes=self._max_bytes)
        received = decode_message(frame[HEADER_SIZE:])[1]
        is_request = kind is FrameKind.REQUEST
        self._sent.append(SentMessage(action, received, _receiver(target, target_id, is_request), is_request))
        return received


def _receiver(target: Target, target_id: int, is_request: bool) -> Receiver:
    if target is Target.RANDOM and is_request:
        return "app"
    if target is Target.SLOT:
        return f"app#{target_id}"
    return target_id if target is Target.WORKER else _NAMES[target]
