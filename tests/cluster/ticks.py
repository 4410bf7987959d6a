"""Scheduled functions that write down each of their runs, outside of all processes, and what may be read there."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.cluster.harness import Launched, Project

# One write(2) with O_APPEND for each line: neither a kill nor another writer tears it apart.
NOTES = """
import asyncio, os, time
from eggcluster import scheduled_for

def note(*words):
    path = os.path.join(os.path.dirname(__file__), "ticks")
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (" ".join(map(str, words)) + "\\n").encode())
    os.close(file)

async def run(name, seconds=0.0):
    note("begin", name, scheduled_for(), os.getpid(), time.time())
    await asyncio.sleep(seconds)
    note("end", name, scheduled_for(), os.getpid(), time.time())
"""

APP = """
from eggcluster import Application
import notes

async def api(scope, receive, send):
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    result = repr(await answer(body.decode())).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": result})

async def answer(text):
    try:
        return await app.run_schedule(*text.split())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

app = Application(api)
"""

AGENT = """
from eggcluster import Agent
import notes

agent = Agent()
"""


@dataclass
class TickRun:
    """One run: its tick and when it began and ended, all in Unix seconds; `end` is None where its process died."""

    name: str
    due: float
    pid: int
    begin: float
    end: float | None = None


class Ticks:
    """What has been written so far."""

    def __init__(self, project: Project, name: str) -> None:
        self.runs: list[TickRun] = []
        path = project.folder / "ticks"
        for line in path.read_text().splitlines() if path.exists() else ():
            what, task, due, pid, at = line.split()
            if task != name:
                continue
            if what == "begin":
                # Not rounded: a tick just before an agent's death would seem to have come after it.
                self.runs.append(TickRun(task, float(due), int(pid), float(at)))
            else:
                run = next(r for r in reversed(self.runs) if r.pid == int(pid) and r.due == float(due))
                run.end = float(at)

    @property
    def dues(self) -> list[float]:
        return [run.due for run in self.runs]

    def twice(self) -> list[float]:
        """Ticks that began more than once."""
        return sorted({due for due in self.dues if sum(abs(due - other) < 0.05 for other in self.dues) > 1})

    def overlapping(self) -> list[tuple[TickRun, TickRun]]:
        """Runs of which one began before the other had ended."""
        return [
            (one, two)
            for number, one in enumerate(self.runs)
            for two in self.runs[number + 1 :]
            if one.end is not None and one.begin < two.begin < one.end
        ]

    def missing(self, interval: float, log: str, excuses: Iterable[tuple[float, float]] = ()) -> list[float]:
        """Instants of the grid, from the first tick to the last, for which nothing began: but for those that the agent
        has told of in its log, and for excused times, up to the next run after them."""
        count = round((self.dues[-1] - self.dues[0]) / interval)
        instants = [self.dues[0] + step * interval for step in range(count)]
        told = told_of(log, self.runs[0].name)
        return [
            instant
            for instant in instants
            if not any(abs(instant - due) < interval / 4 for due in self.dues)
            and not any(begin <= instant <= self._next_begin(end) for begin, end in excuses)
            and not any(begin - 0.01 <= seconds_of_day(instant) <= end + 0.01 for begin, end in told)
        ]

    def _next_begin(self, instant: float) -> float:
        """When the next run began: at the latest five seconds later it has to."""
        return min((run.begin for run in self.runs if instant < run.begin < instant + 5), default=instant + 5)

    def off_grid(self, interval: float) -> list[float]:
        """Ticks that are no instants of the grid of the first one."""
        distances = [(due, (due - self.dues[0]) / interval) for due in self.dues]
        return [due for due, steps in distances if abs(steps - round(steps)) * interval > 0.05]


def told_of(log: str, name: str) -> list[tuple[float, float]]:
    """From when to when the agent's log says that nothing began for this task, in seconds of the local day."""
    clock = r"(\d\d):(\d\d):(\d\d\.\d+)"
    span = re.compile(rf"schedule {name}: (?:skipped|lost|nobody|left out) {clock}(?: (?:to|until before) {clock})?")

    def seconds(*parts: str) -> float:
        return int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2])

    return [
        (seconds(*found[:3]), seconds(*(found[3:] if found[3] else found[:3])))
        for found in (match.groups() for match in span.finditer(log))
    ]


def seconds_of_day(instant: float) -> float:
    local = time.localtime(instant)
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec + instant % 1


def write(project: Project, *, app: str = "", agent: str = "") -> Project:
    """A project whose modules have these tasks."""
    return project.write(notes=NOTES, app=APP + app, agent=AGENT + agent)


def post(cluster: Launched, words: str) -> str:
    """What `run_schedule` gives in a worker."""
    import httpx

    return httpx.post(cluster.address, content=words, timeout=30).text
