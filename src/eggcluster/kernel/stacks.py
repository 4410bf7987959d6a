"""Stacks of the application's tasks and threads, as text. Runs in agent and app workers, in any thread."""

import asyncio
import contextlib
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Coroutine, Iterable, Iterator
from itertools import dropwhile
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import eggcluster

Frames = Iterable[tuple[FrameType, int]]
_STANDARD = os.path.dirname(os.__file__) + os.sep
_INSTALLED = os.path.join(_STANDARD, "site-packages") + os.sep
# Files of ours, of the import system (its frozen part, too), and of what starts a module or a loop.
_MACHINERY = (
    "<frozen runpy>",
    asyncio.runners.__file__,
    os.path.dirname(eggcluster.__file__ or "") + os.sep,
    "<frozen importlib",
    os.path.dirname(importlib.__file__) + os.sep,
)


def is_machinery(filename: str) -> bool:
    """Return whether a frame of that file belongs to us or to the import system."""
    return filename.startswith(_MACHINERY)


def stack_of(frames: Frames) -> str:
    """Return the frames as text, the outermost first, without our own; "" if none is left."""
    own = [(frame, line) for frame, line in frames if not is_machinery(frame.f_code.co_filename)]
    return "".join(traceback.StackSummary.extract(iter(own)).format())


def waiting(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of a coroutine and of what it awaits, the outermost first."""
    while isinstance(coroutine, Coroutine) and (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield frame, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None)


def thread_frames(ident: int) -> list[tuple[FrameType, int]]:
    """Return the frames of a thread, the outermost first."""
    frame = sys._current_frames().get(ident)
    return [*traceback.walk_stack(frame)][::-1] if frame is not None else []


_callers: WeakKeyDictionary[threading.Thread, int] = (
    WeakKeyDictionary()
)  # of threads in which a worker calls a function


def note_call(thread: threading.Thread) -> None:
    """Note that the running thread, a worker's own, waits for a function of the application in another thread."""
    _callers[thread] = threading.get_ident()


def called_stacks(caller: int) -> str:
    """Return the stacks of the functions that the worker's thread `caller` waits for in other threads."""
    return "".join(
        stack_of(thread_frames(thread.ident))
        for thread in threading.enumerate()
        if thread.ident is not None and _callers.get(thread) == caller
    )


def application_stacks(loop: asyncio.AbstractEventLoop | None, thread: int | None = None) -> str:
    """Return the stacks of all tasks and of all threads that keep the process alive, or that the worker waits for,
    where they are in code of the application or its libraries. They show what holds the end up.

    `thread` is the worker's own if several workers share the process: then only that thread counts, and those that it
    waits for.
    """
    parts = []
    for name, frames in (*_threads(thread), *_tasks(loop)):
        own = [*dropwhile(lambda entry: not _is_application(entry[0].f_code.co_filename), frames)]
        if own:
            parts.append(f"{name}:\n{stack_of(own)}")
    return "".join(parts).rstrip()


def _tasks(loop: asyncio.AbstractEventLoop | None) -> Iterator[tuple[str, list[tuple[FrameType, int]]]]:
    with contextlib.suppress(RuntimeError):  # the set of tasks changes all the time
        for task in asyncio.all_tasks(loop) if loop is not None else ():
            coroutine = task.get_coro()
            if not getattr(coroutine, "cr_running", False):  # else it is on its thread's stack
                yield f"task {task.get_name()}", [*waiting(coroutine)]


def _threads(only: int | None) -> Iterator[tuple[str, list[tuple[FrameType, int]]]]:
    for thread in threading.enumerate():
        caller = _callers.get(thread)
        counts = only in (thread.ident, caller) if only else caller is not None or not thread.daemon
        if thread.ident is not None and counts:
            yield f"thread {thread.name}", thread_frames(thread.ident)


def _is_application(filename: str) -> bool:
    standard = filename.startswith(_STANDARD) and not filename.startswith(_INSTALLED)
    compiled = filename.startswith("<frozen") or filename.endswith(".pyx")
    return not (standard or compiled or is_machinery(filename))
