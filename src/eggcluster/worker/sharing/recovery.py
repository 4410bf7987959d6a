"""Recovery of the shared dictionary from the app workers' copies, after the agent was replaced. Runs in the agent.

Which copy is taken, and when, is decided in `model/shared/survivors.py`. A worker that connects after the choice gets
the restored table. If its copy holds more, that is merged first (`settle`).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from eggcluster.errors import LeaderGone, MessengerClosed, MessengerError
from eggcluster.ipc.direct_connection import DirectConnection
from eggcluster.model.shared.shared_copy import CopyMark, problem_of_copy, problem_of_mark
from eggcluster.model.shared.shared_store import Store
from eggcluster.model.shared.shared_table import TableCopy
from eggcluster.model.shared.survivors import Survivors, Verdict
from eggcluster.packing import PackingError, convert

LOOK_INTERVAL = 0.25  # seconds between two questions to the master which workers live
COPY_TIMEOUT = 5.0  # seconds for a worker to send its copy
PATIENCE = 3.0  # seconds after which the log names the workers that are waited for

AskMaster = Callable[[str], Awaitable[Any]]  # sends a request of that action to the master

_logger = logging.getLogger("eggcluster.shared")


class SharedRecovery:
    """Fills the store of the agent `store.generation` from the workers' copies.

    `worker_ids` are the living workers that may have a copy, `existed` says whether a former agent has written
    anything. `arrive` and `leave` record the connections. `on_adopted` is called when a late copy has been merged, so
    that the changes are sent to the workers.
    """

    def __init__(
        self,
        store: Store,
        worker_ids: Sequence[int],
        existed: bool,
        ask_master: AskMaster,
        on_adopted: Callable[[], None],
    ) -> None:
        self._store = store
        self._on_adopted = on_adopted
        self._survivors: Survivors[DirectConnection] = Survivors(worker_ids)
        self._had_survivors = bool(worker_ids)
        self._existed = existed
        self._ask_master = ask_master
        self._restored = False
        self._dead: set[int] = set()  # died before they answered
        self._began = time.monotonic()
        self._next_look = self._began + LOOK_INTERVAL
        self._news = asyncio.Event()

    def arrive(self, worker_id: int, mark: CopyMark | None, connection: DirectConnection) -> None:
        """Record a worker's hello and the mark of its copy; None means that it has no copy of a former agent's."""
        if mark is not None and (problem := problem_of_mark(mark, self._store.generation)):
            if mark.generation != self._store.generation:  # else it is this agent's own, and the worker reconnects
                _logger.error("the copy of app worker %d is not used: %s", worker_id, problem)
            mark = None
        self._survivors.arrive(connection, worker_id, mark, time.monotonic())
        self._news.set()

    def leave(self, connection: DirectConnection) -> None:
        """Record that a connection has closed: its worker, if it lives, connects again."""
        self._survivors.leave(connection)
        self._news.set()

    async def run(self) -> None:
        """Restore the best copy. Wait for it as long as a worker lives that may have one."""
        complain = True
        while (chosen := self._survivors.choose(time.monotonic())) is not Verdict.OPEN:
            if isinstance(chosen, Verdict):
                complain = complain and not self._complain()
                await self._wait()
            elif (copy := await self._fetch(chosen)) is not None:
                self._store.restore(copy)
                _logger.info("restored %d shared keys from a worker's copy", len(copy.entries))
                break
        else:
            self._report_loss()
        self._restored = True

    async def settle(self, connection: DirectConnection) -> None:
        """Merge the copy of a worker that came too late, before the worker gets the restored table.

        Does nothing if its copy holds nothing more, and before `run` has ended.
        """
        while self._restored and (mark := self._survivors.mark(connection)) is not None:
            if self._store.contains(*mark):
                return
            copy = await self._fetch(connection)
            if copy is not None and not self._store.contains(copy.version, copy.generation):
                self._adopt(copy)

    # -- inside ----------------------------------------------------------------------------------------

    def _adopt(self, copy: TableCopy) -> None:
        lost = self._store.adopt(copy, time.monotonic())
        self._on_adopted()
        _logger.warning("merged a copy of the shared dictionary that came late")
        if lost:
            some = ", ".join(map(repr, lost[:5])) + (", ..." if len(lost) > 5 else "")
            _logger.error("%d shared keys have lost acknowledged values, newer ones were written: %s", len(lost), some)

    async def _wait(self) -> None:
        """Wait for news from a worker. The master is asked about the silent ones in its own rhythm: in a reload, where
        workers come and go all the time, their news must not put that off until all copies are gone."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._next_look - time.monotonic())):
                await self._news.wait()
            return
        self._next_look = time.monotonic() + LOOK_INTERVAL
        with contextlib.suppress(MessengerError, PackingError):  # without an answer, nothing is known to have changed
            self._dead |= self._survivors.keep(convert(await self._ask_master("egg-survivors"), list[int]))

    def _complain(self) -> bool:
        """Name the workers that are waited for, if that takes long; return whether it was done."""
        if time.monotonic() < self._began + PATIENCE:
            return False
        ids = ", ".join(map(str, sorted(self._survivors.silent)))
        text = "writes to the shared dictionary wait for copies of app workers that live and do not answer: %s"
        _logger.warning(text, ids)
        return True

    def _report_loss(self) -> None:
        if self._dead:
            ids = ", ".join(map(str, sorted(self._dead)))
            _logger.error("the shared dictionary is lost: every worker with a copy died before it answered (%s)", ids)
        elif self._existed and not self._had_survivors:
            _logger.error("the shared dictionary is lost: no app worker with a copy was left when the agent died")
        elif self._existed:
            _logger.error("the shared dictionary is lost: no living app worker has a copy that can be used")

    async def _fetch(self, connection: DirectConnection) -> TableCopy | None:
        """Return the copy at the other end; None if it did not come, which is recorded."""
        try:
            copy = read_copy(await connection.request("copy", None, COPY_TIMEOUT))
        except (MessengerClosed, LeaderGone):  # the worker connects again
            self.leave(connection)
        except MessengerError as error:
            _logger.warning("a worker did not send its copy of the shared dictionary: %s", error)
            self._survivors.fail(connection)
        except PackingError as error:
            self._refuse(connection, str(error))
        else:
            if not (problem := problem_of_copy(copy, self._store.generation)):
                return copy
            self._refuse(connection, problem)
        return None

    def _refuse(self, connection: DirectConnection, problem: str) -> None:
        _logger.error("a worker's copy of the shared dictionary is not used: %s", problem)
        self._survivors.refuse(connection)


def read_copy(data: Any) -> TableCopy:
    """Return a received copy; raise ValidationError if it is malformed."""
    copy: TableCopy = convert(data, TableCopy)
    return copy
