"""The parts of a fork whose child belongs to the grandparent, each with real processes; Linux only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eggcluster.kernel.surroundings import surroundings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no templates")


def run(code: str, **environ: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, **environ}
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


# A grandparent that adopts; its child, which forks; the new process, which says whose child it is.
GRANDPARENT = """
import ctypes, os
from eggcluster.kernel.grandchild import Grandfork
from eggcluster.kernel.process_adoption import AdoptedProcess, become_subreaper
# One write(2) for each line: several processes write.
os.register_at_fork(before=lambda: os.write(1, b"before\\n"), after_in_child=lambda: os.write(1, b"after\\n"))
assert become_subreaper()
told, tell = os.pipe()
wait, release = os.pipe()
template = ctypes.PyDLL(None).fork()
if template == 0:
    grandparent, forks = os.getppid(), Grandfork()
    for _ in range(3):
        pid = forks.fork()
        if pid == 0:
            os.read(wait, 1)
            os._exit(7 if os.getppid() == grandparent else 1)
        os.write(tell, b"%d " % pid)
    os._exit(0)
os.waitpid(template, 0)
data = os.read(told, 100)
pids = [int(word) for word in data.split()]
children = [AdoptedProcess(pid) for pid in pids]
os.write(release, b"...")
print([child.wait() for child in children] == [7, 7, 7], len(set(pids)))
"""


def test_a_grandchild_belongs_to_the_grandparent_and_hooks_run_once() -> None:
    lines = run(GRANDPARENT).split()
    assert sorted(lines[:-2]) == ["after"] * 3 + ["before"] * 3
    assert lines[-2:] == ["True", "3"]


def test_a_process_that_is_not_a_child_is_not_adopted() -> None:
    code = "from eggcluster.kernel.process_adoption import AdoptedProcess\n"
    code += "try: AdoptedProcess(1)\nexcept ChildProcessError: print('refused')"
    assert run(code) == "refused\n"


MARKED = """
import os, subprocess
from eggcluster.kernel.process_mark import find_mark, take_mark
take_mark("SOME_MARK", "mine")
entries = open("/proc/self/environ", "rb").read().split(b"\\0")
assert entries.count(b"SOME_MARK=mine") == 1, entries
assert b"LAST=1" in entries
assert not [entry for entry in entries if b"___" in entry]
assert subprocess.check_output(["printenv", "SOME_MARK"]) == b"mine\\n"
assert find_mark("NO_SUCH_MARK") is None
try:
    take_mark("SOME_MARK", "x" * 200)
except OSError as error:
    print(error)
"""


def test_a_mark_is_written_over_where_proc_shows_it() -> None:
    shown = run(MARKED, SOME_MARK="first".ljust(40, "_"), LAST="1")
    assert shown.startswith("the environment has no room for SOME_MARK=xxx")


UNFIT = """
import os, threading
from eggcluster.template.fitness import foreign_descriptors, foreign_threads, hidden_mark
assert foreign_threads() == foreign_descriptors() == "", (foreign_threads(), foreign_descriptors())
print(hidden_mark())
threading.Thread(target=threading.Event().wait, name="batch", daemon=True).start()
print(foreign_threads())
kept = os.pipe()
print(foreign_descriptors(kept[0]).partition(":[")[0], foreign_descriptors(*kept) == "")
"""


def test_a_process_knows_what_makes_it_unfit_to_fork() -> None:
    lines = run(UNFIT).splitlines()
    assert lines == ["an environment that /proc does not show", "threads: batch", "open file descriptors: pipe True"]


CHANGES = {
    "the umask": "os.umask(0o027)",
    "a limit": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "the nice value": "os.nice(1)",
    "the directory": "os.chdir('/proc')",
    "the environment": "os.environ['NEW'] = '1'",
    "the OOM score": "open('/proc/self/oom_score_adj', 'w').write('900')",
    "the CPUs": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "an ignored signal": "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
}


@pytest.mark.parametrize("change", CHANGES)
def test_surroundings_tell_what_has_changed(change: str) -> None:
    code = "import os, resource, signal\nfrom eggcluster.kernel.surroundings import surroundings\n"
    code += "now = lambda: surroundings(None, '/usr/bin/python')\n"
    code += "os.sched_setaffinity(0, os.sched_getaffinity(0)); before = now(); assert before == now()\n"
    assert run(f"{code}{CHANGES[change]}\nprint(before == now())") == "False\n"


def test_surroundings_tell_that_a_link_leads_elsewhere(tmp_path: Path) -> None:
    for release in ("one", "two"):
        (tmp_path / release / "bin").mkdir(parents=True)
    current, elsewhere = tmp_path / "current", tmp_path / "two"
    current.symlink_to(tmp_path / "one")
    python = str(current / "bin" / "python")
    in_directory, of_python = surroundings(str(current), "/bin/python"), surroundings(None, python)
    assert in_directory == surroundings(str(current), "/bin/python")
    current.unlink()
    current.symlink_to(elsewhere)
    assert in_directory != surroundings(str(current), "/bin/python")
    assert of_python != surroundings(None, python)


def test_surroundings_stay_while_nothing_changes() -> None:
    assert surroundings("/", "/bin/python") == surroundings("/", "/bin/python")
