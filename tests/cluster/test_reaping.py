"""What a subreaper reaps and what it leaves to others, with real children, in a process of their own."""

import subprocess
import sys

from eggcluster.kernel.process_tree import zombies_of
from tests.cluster.harness import HELLO, Project
from tests.waiting import wait_until

SCRIPT = """
import os, subprocess, time
from eggcluster.kernel.process_tree import zombies_of
from eggcluster.kernel.process_adoption import reap_adopted

children = [subprocess.Popen(["true"]) for _ in range(4)]
pids = [child.pid for child in children]
deadline = time.monotonic() + 10
while sorted(zombies_of(os.getpid())) != sorted(pids) and time.monotonic() < deadline:
    time.sleep(0.01)
own = {pids[OWN]}
reap_adopted(own)
assert set(zombies_of(os.getpid())) == own, (pids, zombies_of(os.getpid()))
reap_adopted(set())
assert zombies_of(os.getpid()) == []
reap_adopted(set())
for child in children:
    child.wait()
"""


def test_adopted_zombies_are_reaped_wherever_one_of_our_own_stands_among_them() -> None:
    for own in range(4):
        subprocess.run([sys.executable, "-c", SCRIPT.replace("OWN", str(own))], check=True, timeout=60)


# The program had a child before it became the master. The child has ended, and the master was not told.
HAD_A_CHILD = """
import os, sys
if os.fork():
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_child_from_before_the_master_that_has_ended_is_reaped(project: Project) -> None:
    """Of the shell that started it by `exec`, say, as the first process of a container."""
    launched = project.write(app=HELLO).start("--workers", "1", launcher=[sys.executable, "-c", HAD_A_CHILD])
    launched.wait_ready()
    wait_until(lambda: zombies_of(launched.pid) == [], "it is reaped")
