"""What a template finds in itself: threads and where they were started, descriptors, generators of random numbers."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no templates")


def run(code: str) -> list[str]:
    """Run code in a process of its own; gives the lines that it prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()


THREADS = """
import threading
from eggcluster.template.fitness import foreign_threads
from eggcluster.template.thread_starts import ThreadStarts
code = "import threading\\nwait = threading.Event().wait\\n"
code += "def go(name): threading.Thread(target=wait, name=name, daemon=True).start()"
names = {}
exec(compile(code, "/srv/app.py", "exec"), names)
starts = ThreadStarts()
with starts:
    names["go"]("one")
names["go"]("two")
print(foreign_threads(place=starts.place))
print(foreign_threads(["two"], starts.place))
print(foreign_threads(["one", "two"]) == "")
"""


def test_threads_are_named_with_the_place_of_their_start() -> None:
    one = "one (started at /srv/app.py:3)"
    assert run(THREADS) == [f"threads: {one}, two", f"threads: {one}", "True"]


IN_C = """
import ctypes, os, threading
from eggcluster.template.fitness import foreign_threads
libc = ctypes.CDLL(None)
thread = ctypes.c_ulong()
libc.pthread_create(ctypes.byref(thread), None, libc.pause, None)
found = foreign_threads()
print(found.partition(" (")[2], foreign_threads([found.removeprefix("threads: ").partition(" (")[0]]) == "")
"""


def test_a_thread_of_a_library_has_the_kernels_name() -> None:
    assert run(IN_C) == ["not started by Python) True"]


OPENED = """
import os, socket, sys
from eggcluster.template.fitness import open_descriptors, opened_since
before = open_descriptors()
print(opened_since(before))
kept = [open(sys.executable), open("/dev/null"), os.pipe(), socket.socketpair(), socket.socket(socket.AF_UNIX)]
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
port = server.getsockname()[1]
print([each.replace(str(port), "PORT").replace(sys.executable, "FILE") for each in opened_since(before)])
"""


def test_descriptors_are_named_by_where_they_go() -> None:
    nothing, found = run(OPENED)
    assert nothing == "[]"
    named = ["pipe (2 times)", "socket pair (2 times)", "socket at no address yet"]
    named += ["socket at 127.0.0.1:PORT", "socket to 127.0.0.1:PORT"]
    assert found.endswith(", ".join(map(repr, named)) + "]")


RESEEDED = """
import sys, types
sys.modules["numpy.random"] = types.SimpleNamespace(seed=lambda: print("seeded"))
from eggcluster.template.template_process import reseed
reseed()
"""


def test_numpys_global_generator_gets_numbers_of_its_own() -> None:
    assert run(RESEEDED) == ["seeded"]


HANDLERS = """
import ctypes, os
from eggcluster.kernel.grandchild import Grandfork
called = []
handler = ctypes.CFUNCTYPE(None)(lambda: called.append(os.getpid() == me))
me = os.getpid()
libc = ctypes.CDLL(None)
register = libc.__register_atfork
register(handler, None, None, None)
Grandfork().try_handlers()
print(called)
"""


def test_a_fork_can_be_tried_for_the_handlers_of_the_c_library() -> None:
    assert run(HANDLERS) == ["[True]"]
