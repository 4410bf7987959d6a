"""Whether the worker stands at a debugger's prompt, such as `(Pdb)`, and its end. Runs in agent and app workers."""

import sys
from types import FrameType


def quit_debugger(frame: FrameType | None) -> None:
    """Raise BdbQuit, as the command `quit` does, if `frame` is at the prompt of a debugger that is made on Python's
    `bdb`: pdb, ipdb, pudb. Call it in a signal handler: that ends the read from the terminal, and the event loop, which
    waits for it, is free to close. A prompt in another thread is not seen: no signal ends a read there.
    """
    bdb = sys.modules.get("bdb")
    while bdb is not None and frame is not None:
        if frame.f_code.co_name in PROMPTS and isinstance(frame.f_locals.get("self"), bdb.Bdb):
            raise bdb.BdbQuit
        frame = frame.f_back


PROMPTS = ("cmdloop", "_cmdloop", "interaction", "_interaction", "user_line", "user_call", "user_return")
