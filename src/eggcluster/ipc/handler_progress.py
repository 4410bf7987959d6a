"""Which messages' handlers have begun and have finished, in memory shared with the master. Runs in all workers.

Handlers begin in the order of their messages, so one number says which have begun. An async handler begins in a task,
in the next turn of the event loop. A plain one behind it waits for that turn, too.
"""

from array import array
from collections.abc import Callable

from eggcluster.model.messages.begun import Begun

MAX_UNFINISHED = 1000  # handlers of one worker; then it stops reading
# The numbers, as unsigned 64-bit integers. Only the master writes FENCED.
BEGUN = 0  # how many messages have begun
FINISHED = 1  # the last message whose handlers were called in line, and have returned; or whose task has begun
UNFINISHED = 2  # how many handlers run in tasks; 0: the table is empty
READ = 3  # how many messages were read; written only where a worker may be fenced
FENCED = 4  # the master waits no more: nothing may begin that was not read before
_TABLE = 8  # from here on: the messages whose handlers run in tasks, 0 for none
NUMBERS = _TABLE + MAX_UNFINISHED + 24  # some more places, because a message may have several handlers


def private_numbers() -> memoryview:
    """Return numbers that are shared with no other process: the parent's."""
    return memoryview(array("Q", bytes(8 * NUMBERS)))


def read_begun(numbers: memoryview) -> Begun:
    """Return what the numbers say. Called by the master, also while the worker goes on.

    The count is read first. So a message that has begun, and is not among the unfinished, has finished: the worker
    writes its place in the table before it counts it.
    """
    count, finished = numbers[BEGUN], numbers[FINISHED]
    unfinished = set(numbers[_TABLE:NUMBERS]) if numbers[UNFINISHED] else set()
    if count != finished:
        unfinished.add(count)
    return Begun(count, frozenset(unfinished - {0}))


def read_fenced(numbers: memoryview) -> Begun:
    """Return what a fenced worker has left: what it has read counts as begun, because it may wake and go on with it."""
    begun, read = read_begun(numbers), numbers[READ]
    return Begun(read, begun.unfinished | frozenset(range(begun.count + 1, min(read, begun.count + NUMBERS) + 1)))


class HandlerProgress:
    """Counts the messages of one worker. `number` is that of the latest one, `numbers` the shared memory.

    A message whose handlers are plain is marked by the dispatcher itself, in line: BEGUN before the call, FINISHED
    after it. `is_open` says that the next message may be taken like that at once; `in_order`, that no earlier message
    has yet to begin; `waits`, that messages wait for a free place. `on_room` is called when there is one. If
    `may_be_fenced`, `admits` is asked about whatever is read.
    """

    def __init__(self, numbers: memoryview, *, may_be_fenced: bool = False) -> None:
        self.numbers = numbers
        self.number = 0
        self.is_open = self.in_order = True
        self.unfinished = 0
        self.waits = False
        self.on_room: Callable[[], None] = lambda: None
        self._unbegun = 0
        self._taken = 0  # places of the table
        self._free = list(range(NUMBERS - 1, _TABLE - 1, -1))
        self.may_be_fenced = may_be_fenced

    @property
    def is_full(self) -> bool:
        """Whether no more handlers may begin for now."""
        return self.unfinished >= MAX_UNFINISHED

    def admits(self, count: int) -> bool:
        """Note that `count` more messages were read; return False if this worker is fenced, and must drop them."""
        if not self.may_be_fenced:
            return True
        if self.numbers[FENCED]:
            return False
        self.numbers[READ] += count
        return not self.numbers[FENCED]

    def next_number(self) -> int:
        """Count the next message and return its number."""
        self.number += 1
        return self.number

    def expect(self, number: int) -> "Handling":
        """Return the handling of a message that begins in a task."""
        self.expect_later()
        return Handling(self, number)

    def expect_later(self) -> None:
        """Note that a plain handler is called later in this turn, because tasks have yet to begin."""
        self._unbegun += 1
        self.unfinished += 1
        self.in_order = self.is_open = False

    def end_later(self) -> None:
        """Note that it was called, and has returned. The dispatcher marks it in line, as the others."""
        self.began()
        self.ended()

    def hold(self, number: int) -> "Handling":
        """Return the handling of a message that has begun in line, and goes on in a task."""
        handling = self.expect(number)
        handling.take_place()
        self.began()
        return handling

    def hold_latest(self) -> "Handling":
        """`hold` the message that was counted last."""
        return self.hold(self.number)

    def take_place(self, number: int) -> int:
        """Write a message into the table and return its place; 0 if there is no more room."""
        if not self._free:
            return 0
        place = self._free.pop()
        self._taken += 1
        self.numbers[UNFINISHED] = self._taken
        self.numbers[place] = number
        return place

    def leave_place(self, place: int) -> None:
        """Remove a message from the table."""
        if place:
            self._taken -= 1
            self.numbers[place] = 0
            self.numbers[UNFINISHED] = self._taken
            self._free.append(place)

    def began(self) -> None:
        """Count a message as begun that was expected."""
        self._unbegun -= 1
        if not self._unbegun:
            self.update()

    def ended(self) -> None:
        """Count a handling as finished."""
        self.unfinished -= 1
        if not self.is_open:
            self.update()
            if self.waits:
                self.on_room()

    def update(self) -> None:
        """Say anew whether the next message may be taken in line."""
        self.in_order = not self._unbegun
        self.is_open = self.in_order and not self.waits and self.unfinished < MAX_UNFINISHED


class Handling:
    """One handler of a message that runs in a task, or is called later in this turn."""

    __slots__ = ("_ended", "_number", "_place", "_progress")

    def __init__(self, progress: HandlerProgress, number: int) -> None:
        self._progress = progress
        self._number = number
        self._place = -1  # none yet
        self._ended = False

    def begin(self) -> None:
        """Mark the message as begun; its handler's first line comes next. May be called again."""
        if self._place < 0:
            progress, number = self._progress, self._number
            self._place = progress.take_place(number)
            numbers = progress.numbers
            if numbers[BEGUN] < number:  # not so for the second handler of a message
                numbers[BEGUN] = number
                numbers[FINISHED] = number
            progress.began()

    def end(self) -> None:
        """Mark it as finished, also if it was cancelled before it began. May be called again."""
        if not self._ended:
            self._ended = True
            self.begin()
            self._progress.leave_place(self._place)
            self._progress.ended()

    def take_place(self) -> None:
        """Write the message into the table of unfinished ones."""
        self._place = self._progress.take_place(self._number)
