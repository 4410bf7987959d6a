"""Any order of messages, beginnings, endings, deaths and successors: nothing is lost, doubled or out of order, and what
had begun at a death is named. The switchboard is the real one; its channels are lists."""

import asyncio
import logging
import re
from collections import defaultdict, deque
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from eggcluster.ipc.channel import Channel, ShortCut
from eggcluster.ipc.frame import ROUTE, Frame, FrameReader, decode_message, encode_frame
from eggcluster.ipc.handler_progress import BEGUN, FINISHED, HandlerProgress, Handling
from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.worker import AgentWorker, AppWorker, Worker
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT, Address, Role, app

SLOTS = 2
ADDRESSES = [AGENT, *map(app, range(1, SLOTS + 1))]
Note = tuple[str, int]  # the sender's name, and its number for the message


class ListChannel:
    """What a link needs of its channel; what is written stays here until the worker begins it."""

    def __init__(self) -> None:
        self.closed = False
        self.congested = False
        self.queued_bytes = self.written = 0
        self.short_cuts: dict[bytes, ShortCut] = {}
        self.reader = FrameReader(runs=True)
        self.unread: deque[tuple[FrameKind, tuple[int, int], Any]] = deque()

    def write(self, raw: bytes) -> None:
        for frame in FrameReader().feed(bytes(raw)):
            if frame.kind in (FrameKind.MESSAGE, FrameKind.REQUEST):
                self.unread.append((frame.kind, frame.request_key, decode_message(frame.body)))
            else:
                self.unread.append((frame.kind, frame.reply_key, None))

    def pass_on(self, raw: bytes) -> bool:
        self.write(raw)
        return True

    def learn(self, frame: Frame, short_cut: ShortCut) -> None:
        self.short_cuts[bytes(frame.raw[ROUTE])] = short_cut

    def close(self) -> None:
        self.closed = True


class Life:
    """One worker, from its link to its death."""

    def __init__(self, switchboard: Switchboard, worker: Worker) -> None:
        self.worker = worker
        self.page = HeartbeatPage.create("test")
        self.progress = HandlerProgress(self.page.messages)
        self.channel = ListChannel()
        self.link = switchboard.add_link(worker, self.page)
        self.link.channel = cast(Channel, self.channel)
        self.begun: list[Note] = []
        self.running: dict[Note, Handling] = {}
        self.in_line: Note | None = None
        self.overlapped = False  # it was live while its successor was there

    def __repr__(self) -> str:
        return str(self.worker)

    @property
    def address(self) -> Address:
        return self.worker.address

    def send(self, switchboard: Switchboard, raw: bytes) -> None:
        """As the channel does it: one small frame takes a short cut if there is one."""
        way = self.channel.short_cuts.get(raw[ROUTE])
        if not self.channel.reader.is_single(raw) or way is None or not way(raw):
            switchboard._receive(self.link, self.channel.reader.feed(raw))

    def next_note(self) -> tuple[FrameKind, tuple[int, int], Note] | None:
        while self.channel.unread:
            kind, key, content = self.channel.unread.popleft()
            if kind in (FrameKind.MESSAGE, FrameKind.REQUEST):
                return kind, key, tuple(content[1])
        return None


class MessagesToTheDead(RuleBasedStateMachine):
    """Workers live, die and are replaced at three addresses while messages are under way between them."""

    @initialize()
    def boot(self) -> None:
        self.runner = asyncio.Runner()
        self.log: list[str] = []
        self.handler = _Collector(self.log)
        logging.getLogger("eggcluster.master").addHandler(self.handler)
        self.runner.run(self._boot())

    async def _boot(self) -> None:
        self.switchboard = Switchboard(SLOTS, lambda *_: None, lambda *_: None, lambda *_: None)
        self.live: dict[Address, Life] = {}
        self.booting: dict[Address, Life] = {}
        self.retired: list[Life] = []
        self.all: list[Life] = []
        self.sent: dict[Address, list[Note]] = defaultdict(list)  # to one address
        self.to_random: list[Note] = []
        self.to_ids: set[Note] = set()
        self.requests: dict[Note, tuple[int, int]] = {}
        self.failed: set[tuple[int, int]] = set()
        self.answered: set[tuple[int, int]] = set()
        self.count = 0
        for address in ADDRESSES:
            self._add(address)
            self._go_live(address)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            try:
                self.runner.run(self._check_at_the_end())
            finally:
                logging.getLogger("eggcluster.master").removeHandler(self.handler)
                self.runner.close()
                for life in self.all:
                    life.page.close()

    # -- what happens ------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        to=st.sampled_from(["agent", "app#1", "app#2", "apps", "all", "random", "id"]),
        count=st.sampled_from([1, 1, 1, 2, 3, 70]),
    )
    def messages_are_sent(self, data: st.DataObject, to: str, count: int) -> None:
        if senders := [*self.live.values(), *self.booting.values(), *self.retired]:
            sender = data.draw(st.sampled_from(senders))
            together = data.draw(st.booleans())
            self.runner.run(self._send(sender, to, count, together, FrameKind.MESSAGE))

    @rule(data=st.data(), to=st.sampled_from(["agent", "app#1", "app#2", "random"]))
    def a_request_is_sent(self, data: st.DataObject, to: str) -> None:
        if senders := [*self.live.values(), *self.retired]:
            sender = data.draw(st.sampled_from(senders))
            self.runner.run(self._send(sender, to, 1, False, FrameKind.REQUEST))

    async def _send(self, sender: Life, target: str, count: int, together: bool, kind: FrameKind) -> None:
        raws = []
        for _ in range(count):
            self.count += 1
            note = (str(sender.worker), self.count)
            kind_of, target_id = self._expect(target, note)
            source = sender.address.pack()
            request_id = self.count if kind is FrameKind.REQUEST else 0
            if request_id:
                self.requests[note] = (source, request_id)
            raws.append(encode_frame(kind, kind_of, [f"n{self.count}", note], target_id, source, request_id))
        for raw in [b"".join(raws)] if together else raws:
            sender.send(self.switchboard, raw)

    def _expect(self, target: str, note: Note) -> tuple[Target, int]:
        if target == "random":
            if any(address.role is Role.APP for address in self.live):
                self.to_random.append(note)
            return Target.RANDOM, 0
        if target == "id":
            self.to_ids.add(note)
            return Target.WORKER, next(iter(self.live.values())).worker.worker_id or 0 if self.live else 1
        receivers = {"agent": ADDRESSES[:1], "all": ADDRESSES, "apps": ADDRESSES[1:]}
        slot = int(target[-1]) if target.startswith("app#") else 0
        for address in receivers.get(target, [app(slot)] if slot else []):
            self.sent[address].append(note)
        kinds = {"agent": Target.AGENT, "all": Target.ALL, "apps": Target.APPS}
        return kinds.get(target, Target.SLOT), slot

    @rule(data=st.data(), count=st.sampled_from([1, 2, 5, 100]), in_task=st.booleans())
    def some_begin(self, data: st.DataObject, count: int, in_task: bool) -> None:
        if lives := [*self.live.values(), *self.retired]:
            self.runner.run(self._begin(data.draw(st.sampled_from(lives)), count, in_task))

    async def _begin(self, life: Life, count: int, in_task: bool = False, *, to_the_end: bool = False) -> None:
        self._finish_in_line(life)
        for _ in range(count):
            found = life.next_note()
            if found is None:
                return
            kind, key, note = found
            number = life.progress.next_number()
            life.begun.append(note)
            if in_task:
                life.running[note] = handling = life.progress.expect(number)
                handling.begin()
            else:
                life.page.messages[BEGUN] = number
                life.in_line = note
                if count > 1 or to_the_end:
                    self._finish_in_line(life)
            if kind is FrameKind.REQUEST and (count > 1 or to_the_end):
                self._answer(life, key)

    def _answer(self, life: Life, key: tuple[int, int]) -> None:
        self.answered.add(key)
        raw = encode_frame(FrameKind.REPLY, Target.ADDRESS, None, key[0], life.address.pack(), key[1])
        life.send(self.switchboard, raw)

    def _finish_in_line(self, life: Life) -> None:
        life.in_line = None
        life.page.messages[FINISHED] = max(life.page.messages[FINISHED], life.page.messages[BEGUN])

    @rule(data=st.data())
    def one_finishes(self, data: st.DataObject) -> None:
        if lives := [life for life in (*self.live.values(), *self.retired) if life.running]:
            life = data.draw(st.sampled_from(lives))
            life.running.pop(data.draw(st.sampled_from(sorted(life.running)))).end()

    @rule()
    def the_master_forgets(self) -> None:
        self.switchboard.forget_begun()

    @rule(data=st.data(), told_first=st.booleans())
    def one_dies(self, data: st.DataObject, told_first: bool) -> None:
        lives = [*self.live.values(), *self.booting.values(), *self.retired]
        if lives:
            self.runner.run(self._die(data.draw(st.sampled_from(lives)), told_first, data))

    async def _die(self, life: Life, told_first: bool, data: st.DataObject | None = None) -> None:
        if told_first:  # its channel has ended before its process
            self.switchboard._on_closed(life.link, None)
            if data is not None and (senders := [each for each in self.live.values() if each is not life]):
                sender = data.draw(st.sampled_from(senders))
                await self._send(sender, data.draw(st.sampled_from(["agent", "app#1", "all"])), 2, False, MESSAGE)
        self.log.clear()
        for table in (self.live, self.booting):
            if table.get(life.address) is life:
                del table[life.address]
        if life in self.retired:
            self.retired.remove(life)
        self.switchboard.disconnect(life.worker, life.page.begun())
        life.link.gone.set()  # its channel is closed
        unfinished = {f"n{number}" for _, number in life.running} | ({f"n{life.in_line[1]}"} if life.in_line else set())
        named = [line for line in self.log if "not repeated" in line]
        assert set(re.findall(r'"(n\d+)"', "".join(named))) == unfinished
        life.running.clear()

    @precondition(lambda self: len(self.live) + len(self.booting) < len(ADDRESSES))
    @rule(data=st.data())
    def one_is_forked(self, data: st.DataObject) -> None:
        empty = [each for each in ADDRESSES if each not in self.live and each not in self.booting]
        if empty:
            self.runner.run(self._forked(data.draw(st.sampled_from(empty))))

    @rule(slot=st.integers(1, SLOTS))
    def a_reload_forks(self, slot: int) -> None:
        if app(slot) not in self.booting and app(slot) in self.live:
            self.runner.run(self._forked(app(slot)))

    async def _forked(self, address: Address) -> None:
        self._add(address)

    def _add(self, address: Address) -> None:
        generation = len(self.all) + 1
        kind = AgentWorker if address is AGENT else AppWorker
        worker = kind(address.slot, generation, 0, 60)
        worker.worker_id = 1000 + generation
        life = Life(self.switchboard, worker)
        life.overlapped = address in self.live
        self.booting[address] = life
        self.all.append(life)

    @rule(data=st.data())
    def one_goes_live(self, data: st.DataObject) -> None:
        if self.booting:
            self.runner.run(self._to_life(data.draw(st.sampled_from(sorted(self.booting, key=str)))))

    async def _to_life(self, address: Address) -> None:
        self._go_live(address)

    def _go_live(self, address: Address) -> None:
        life = self.booting.pop(address)
        if (old := self.live.get(address)) is not None:
            old.overlapped = life.overlapped = True
            self.retired.append(old)
        self.live[address] = life
        self.switchboard.go_live(life.worker)

    # -- what holds ----------------------------------------------------------------------------------------

    async def _check_at_the_end(self) -> None:
        for address in ADDRESSES:
            if address not in self.live:
                if address not in self.booting:
                    self._add(address)
                self._go_live(address)
        for life in list(self.retired):
            await self._die(life, told_first=False)
        for _ in range(2):
            for life in self.live.values():
                await self._begin(life, 1_000_000, to_the_end=True)
        for life in self.all:
            assert len(set(life.begun)) == len(life.begun), "one worker got something twice"
        for address, notes in self.sent.items():
            self._check_address(address, notes)
        begun = [note for life in self.all for note in life.begun]
        for note in self.to_random:
            least = 0 if note in self.requests and not self._must_begin(note) else 1
            assert least <= begun.count(note) <= 1, f"{note} to a random worker was begun {begun.count(note)} times"
        assert all(begun.count(note) <= 1 for note in self.to_ids)
        assert not self.switchboard.dropped.total

    def _check_address(self, address: Address, notes: list[Note]) -> None:
        lives = [life for life in self.all if life.address == address]
        begun = [
            note for life in lives for note in life.begun if note not in self.to_random and note not in self.to_ids
        ]
        wanted = set(notes) - {note for note in self.requests if not self._must_begin(note)}
        assert wanted <= set(begun) <= set(notes), (address, wanted - set(begun))
        if not any(life.overlapped for life in lives):
            assert len(set(begun)) == len(begun), "two workers of an address got the same message"
            for sender in {sender for sender, _ in notes}:
                numbers = [number for name, number in begun if name == sender]
                assert numbers == sorted(numbers), (address, sender, numbers)

    def _must_begin(self, note: Note) -> bool:
        """A request whose requester has died need not begin."""
        return any(str(life.worker) == note[0] for life in (*self.live.values(), *self.booting.values()))


MESSAGE = FrameKind.MESSAGE


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


TestMessagesToTheDead = MessagesToTheDead.TestCase
TestMessagesToTheDead.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
