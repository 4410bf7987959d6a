"""A cluster's ordinary life: it boots, serves, tells its identity, and closes in order."""

import signal

import psutil

from tests.cluster.harness import PRELOADED, TEMPLATES, Launched


def test_serves_from_its_workers_and_closes_in_order(hello: Launched) -> None:
    served = {hello.get().text for _ in range(40)}
    assert served <= {f"{slot}:{pid}" for slot, pid in hello.workers().items()}
    assert hello.close() == 0
    log = hello.log
    last_app = max(log.index(f"app_worker#{slot}:") for slot in (1, 2))
    assert log.rindex("app_worker#") < log.rindex("agent_worker#1") < log.rindex("close done, exiting with code:0")
    assert last_app < log.rindex("agent_worker#1")


def test_process_titles_tell_the_story(hello: Launched) -> None:
    master = psutil.Process(hello.pid)
    name = hello.folder.name
    titles = sorted(" ".join(child.cmdline()).strip() for child in master.children(recursive=True))
    assert " ".join(master.cmdline()).strip() == f"egg-master: {name}"
    workers = [f"egg-agent: {name}", f"egg-app#1: {name}", f"egg-app#2: {name}"]
    assert titles == [
        *workers,
        *[f"egg-template: {name}"] * TEMPLATES,
        *[f"egg-template: {name} (preload)"] * PRELOADED,
    ]


def test_sigint_and_sigquit_close_as_sigterm_does(hello: Launched) -> None:
    hello.signal(signal.SIGINT)
    assert hello.wait_exit() == 0
