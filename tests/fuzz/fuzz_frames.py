"""The fuzz target of the frames: `python -m tests.fuzz.fuzz_frames [seconds] [seed]`, from the repository's root.

With atheris installed its coverage guides the mutations, and all arguments are libFuzzer's; without it they are
drawn from a seed. Nothing but FrameError may come out, whatever goes in.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from eggcluster.errors import FrameError
from eggcluster.ipc.channel import Channel
from eggcluster.ipc.frame import Frame, FrameReader, decode_body, decode_message
from eggcluster.ipc.messenger import Messenger
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.worker import AgentWorker, AppWorker, Worker
from eggcluster.model.messages.message import FrameKind
from eggcluster.model.messages.role import AGENT, Role

CORPUS = Path(__file__).parent / "corpus"
MAX_BYTES = 100_000  # of a body; small, so that a mutated length is refused rather than waited for
SHAPES: tuple[Any, ...] = (Any, str, tuple[str, str, str], tuple[str, dict[str, Any]])


def cut(data: bytes, rolls: random.Random) -> list[bytes]:
    """The same bytes in chunks of any size."""
    ends = sorted(rolls.randrange(len(data) + 1) for _ in range(rolls.randrange(6)))
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def read(chunks: list[bytes], runs: bool) -> tuple[list[Frame], bool]:
    """The frames that a reader finds, and whether it refused the rest."""
    reader = FrameReader(MAX_BYTES, runs=runs)
    frames: list[Frame] = []
    for chunk in chunks:
        try:
            frames += reader.feed(chunk)
        except FrameError:
            return frames, True
    return frames, False


class Nowhere(asyncio.Transport):
    """A transport whose other side takes all that it is given."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return True

    def abort(self) -> None:
        pass


def channel(on_frames: Callable[[list[Frame]], None]) -> Channel:
    opened = Channel(on_frames, lambda error: None, MAX_BYTES, runs=True)
    opened.connection_made(Nowhere())
    return opened


class Target:
    """A switchboard and a messenger without sockets: frames are handed to them as a channel would hand them over, and
    bytes to their channels as an event loop would."""

    def __init__(self) -> None:
        self.reports = 0
        self._switchboard = Switchboard(2, self._on_report, lambda worker, error: None, self._on_ask, MAX_BYTES)
        self._links: list[Link] = []
        workers: list[Worker] = [AgentWorker(0, 1, 0, 60), AppWorker(1, 1, 0, 60), AppWorker(2, 1, 0, 60)]
        for number, worker in enumerate(workers):
            worker.worker_id = 100 + number
            link = self._switchboard.add_link(worker)
            link.channel = channel(partial(self._switchboard._receive, link))
            self._links.append(link)
            if number != 2:  # the one in slot 2 boots for ever
                self._switchboard.go_live(worker)
        self._messenger = Messenger(Role.AGENT)
        self._messenger.on("note", lambda data: data)
        self._channel = channel(self._receive)
        self._messenger.attach(self._channel, AGENT)

    def _receive(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._messenger.receive(frame)

    def _on_report(self, worker: Worker, action: str, details: dict[str, Any]) -> None:
        self.reports += 1

    def _on_ask(self, link: Link, request_id: int, action: str, data: Any) -> None:
        self._switchboard.answer(link, request_id, FrameKind.REPLY, [action, None])

    def read(self, chunks: list[bytes]) -> None:
        """The chunks as the master's and an agent's event loop would read them; short cuts are taken, then cut off."""
        ends = [link.channel for link in self._links[:2]] + [self._channel]
        for end in filter(None, ends):
            for chunk in chunks:
                if not end.closed:
                    end.data_received(chunk)
            end.reader = FrameReader(MAX_BYTES, runs=True)
            end.connection_made(Nowhere())

    def take(self, frame: Frame) -> None:
        """One frame as the master and as an agent would take it."""
        # _accept and not _receive, which catches the FrameError: here it must be seen that nothing else is raised.
        with contextlib.suppress(FrameError):
            self._switchboard._accept(self._links[0 if frame.source == AGENT.pack() else 1], frame)
        self._messenger.receive(frame)


def run_one(data: bytes, target: Target, rolls: random.Random) -> None:
    """Everything that these bytes can reach. It raises what must not be raised."""
    chunks = cut(data, rolls)
    single, refused = read(chunks, False)
    merged, refused_too = read(cut(data, rolls), True)
    if refused or refused_too:
        # What came in the chunk that is refused is lost with it; how much that is depends on the cut.
        assert refused == refused_too, "a reader of runs refuses what the other one takes"
    else:
        whole = [b"".join(bytes(frame.raw) for frame in frames) for frames in (single, merged)]
        assert whole[0] == whole[1], "runs change what is read"
        assert len(single) == sum(frame.count for frame in merged), "runs are miscounted"
    for frame in [*single, *merged]:
        for body in frame.bodies() if frame.count > 1 else (frame.body,):
            decode_all(body)
        target.take(frame)
    target.read([data, *cut(data, rolls)])
    target.read([bytes(frame.raw) for frame in single for _ in range(2)])
    decode_all(data)


def decode_all(body: bytes | memoryview) -> None:
    with contextlib.suppress(FrameError):
        decode_message(body)
    for shape in SHAPES:
        with contextlib.suppress(FrameError):
            decode_body(body, shape)


def seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted(CORPUS.glob("*.bin"))]


def mutate(data: bytes, others: list[bytes], rolls: random.Random) -> bytes:
    """A few changes: bytes flipped, cut out, put in, repeated, or taken from another seed."""
    changed = bytearray(data)
    for _ in range(rolls.randrange(1, 6)):
        at = rolls.randrange(len(changed) + 1)
        match rolls.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rolls.randrange(8)
            case 1:
                changed[at:at] = rolls.randbytes(rolls.randrange(1, 9))
            case 2:
                del changed[at : at + rolls.randrange(1, 30)]
            case 3:
                changed[at:at] = rolls.choice(others)[:2_000]
            case 4:
                changed[at:at] = changed[: rolls.randrange(1, 200)]
            case _:  # a header's fields are where most is decided
                spot = rolls.randrange(min(24, len(changed)) or 1)
                changed[spot : spot + 1] = bytes([rolls.choice((0, 1, 2, 7, 9, 10, 127, 128, 255))])
    return bytes(changed)


async def run_for(seconds: float, seed: int) -> int:
    """The corpus, and mutations of it for that long; gives how many inputs there were."""
    rolls, corpus = random.Random(seed), seeds()
    end, count = time.monotonic() + seconds, 0
    while count < len(corpus) or time.monotonic() < end:
        if count % 500 == 0:
            target = Target()  # what the mailboxes and the table of requests hold is forgotten
            await asyncio.sleep(0)
        data = corpus[count] if count < len(corpus) else mutate(rolls.choice(corpus), corpus, rolls)
        try:
            run_one(data, target, rolls)
        except BaseException:
            print(f"the input was {data[:2000]!r} (seed {seed}, number {count})", file=sys.stderr)  # noqa: T201
            raise
        count += 1
    return count


def main() -> None:
    logging.disable(logging.CRITICAL)  # messages without a receiver and unreadable ones: hundreds a second
    if importlib.util.find_spec("atheris") is not None:
        asyncio.run(guided())
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    count = asyncio.run(run_for(seconds, seed))
    print(f"{count} inputs, nothing but FrameError")  # noqa: T201


async def guided() -> None:
    """Mutations that are guided by coverage; ends only with a finding, or as libFuzzer's arguments say."""
    atheris: Any = importlib.import_module("atheris")

    target = Target()

    def test_one_input(data: bytes) -> None:
        run_one(data, target, random.Random(len(data)))

    atheris.instrument_all()
    atheris.Setup([*sys.argv, str(CORPUS)], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
