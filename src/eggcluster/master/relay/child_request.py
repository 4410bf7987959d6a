"""A request of the master's own to one of its children, and the answer. Runs in the master.

The answer is plain data from the child. It may have any shape, so the caller must not rely on one.
"""

import asyncio
import itertools
from typing import Any

from eggcluster.errors import ControlError, FrameError
from eggcluster.ipc.frame import HEADER, Frame, decode_body, encode_frame
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import MASTER, Address

ANSWER_TIMEOUT = 5.0  # seconds; a child that needs longer is busy with something else

_numbers = itertools.count(1)


class _ChildRequest(Link):
    """The requester's end of one request. The first frame that the switchboard writes to it is the answer."""

    def __init__(self) -> None:
        super().__init__(MASTER)
        self.answer: asyncio.Future[bytes | bytearray] = asyncio.get_running_loop().create_future()

    def write(self, raw: bytes | bytearray, *, bounded: bool = True) -> bool:
        if not self.answer.done():
            self.answer.set_result(raw)
        return True


async def ask_child(
    switchboard: Switchboard, address: Address, action: str, data: Any = None, timeout: float | None = ANSWER_TIMEOUT
) -> Any:
    """Ask the child at `address`; return its answer as plain values of any shape. ControlError if there is no such
    child, if it does not answer within `timeout` seconds (None: no limit), or if its answer is a failure. Cancelling
    cancels the request, too."""
    request, request_id = _ChildRequest(), next(_numbers) & 0xFFFFFFFF
    if not switchboard.ask(address, _frame(FrameKind.REQUEST, address, request_id, [action, data]), request):
        raise ControlError(f"there is no {address} at the moment")
    try:
        async with asyncio.timeout(timeout):
            return _decode(await request.answer)
    except TimeoutError:
        raise ControlError(f"the {address} did not answer within {timeout:g}s") from None
    except FrameError as error:
        raise ControlError(f"the answer of the {address} cannot be read: {error}") from None
    finally:
        if not request.answer.done() or request.answer.cancelled():
            switchboard.cancel(_frame(FrameKind.CANCEL, address, request_id, None))


def _frame(kind: FrameKind, address: Address, request_id: int, content: Any) -> Frame:
    raw = encode_frame(kind, Target.ADDRESS, content, address.pack(), MASTER.pack(), request_id)
    return Frame(kind, Target.ADDRESS, address.pack(), MASTER.pack(), request_id, raw)


def _decode(raw: bytes | bytearray) -> Any:
    kind, body = HEADER.unpack_from(raw)[1], memoryview(raw)[HEADER.size :]
    if kind == FrameKind.REPLY:
        return decode_body(body)
    if kind == FrameKind.LOST:
        raise ControlError(decode_body(body, str))
    failure, text, _ = decode_body(body, tuple[str, str, str])
    raise ControlError(f"{failure}: {text}")
