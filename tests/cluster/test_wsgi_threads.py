"""WSGI threads in a whole cluster: a worker that loses half of them is renewed, and a full one is spared."""

from concurrent.futures import ThreadPoolExecutor

from tests.cluster.clients import Client, Target
from tests.cluster.harness import Project
from tests.waiting import wait_until

# /hold-SLOT takes a thread of that slot until the file `gate` is there.
HOLDING = """
import os, pathlib, time
from eggcluster import Application

gate = pathlib.Path(__file__).with_name("gate")

def api(environ, start_response):
    if environ["PATH_INFO"] == f"/hold-{app.slot}":
        hold()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{app.slot}:{os.getpid()}".encode()]

def hold():
    while not gate.exists():
        time.sleep(0.02)

app = Application(api)
"""


def test_a_worker_that_has_lost_half_of_its_threads_is_recycled(project: Project) -> None:
    project.write(app=HOLDING)
    cluster = project.start("--workers", "1", "--threads", "3", "--request-timeout", "0.5").wait_ready()
    old = cluster.workers()[1]
    assert [cluster.get("/hold-1").status_code for _ in range(2)] == [504, 504]
    wait_until(lambda: cluster.workers().get(1, old) != old, "it has been recycled")
    assert cluster.get().status_code == 200
    assert f"recycling app_worker#1:{old} after losing 2 of its WSGI threads" in cluster.log
    assert "in hold" in cluster.log
    assert "died" not in cluster.log
    assert cluster.close() == 0


def test_new_connections_go_past_a_worker_whose_threads_are_busy(project: Project) -> None:
    project.write(app=HOLDING)
    cluster = project.start("--workers", "2", "--threads", "2").wait_ready()
    target = Target.of(cluster)
    held: list[Client] = []

    def passes(_: int) -> bool:
        """Whether a new connection is answered at once. One that comes to slot 1 is not, and makes that fuller."""
        client = Client(target, path="/hold-1")
        if client.waits(1.0):
            held.append(client)
            return False
        return client.read().slot == 2

    def all_pass() -> bool:
        with ThreadPoolExecutor(8) as pool:
            return len(held) > 2 and all(pool.map(passes, range(24)))

    while len(held) < 3:  # two have a thread, one waits
        passes(len(held))
    wait_until(all_pass, "no connection comes to the busy worker")
    (project.folder / "gate").touch()
    assert 1 in {client.read().slot for client in held}
    wait_until(lambda: Client(target).read().slot == 1, "it gets connections again")
    assert cluster.close() == 0
