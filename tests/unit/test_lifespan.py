"""The ASGI lifespan protocol with every kind of application there is."""

import asyncio
from typing import Any

import pytest

from eggcluster.errors import BootError
from eggcluster.worker.app.lifespan import Lifespan
from tests.unit.conftest import Run


def scripted(*answers: str | Exception, seen: list[str] | None = None) -> Any:
    """An application that answers each lifespan event with a message of that type, or raises."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for answer in answers:
            event = await receive()
            if seen is not None:
                seen.append(event["type"])
            if isinstance(answer, Exception):
                raise answer
            await send({"type": answer, "message": "the reason"})

    return app


def test_startup_and_shutdown_once_each(run: Run) -> None:
    seen: list[str] = []

    async def work() -> None:
        lifespan = Lifespan(scripted("lifespan.startup.complete", "lifespan.shutdown.complete", seen=seen))
        await lifespan.startup()
        assert seen == ["lifespan.startup"]
        await lifespan.shutdown()
        await lifespan.shutdown()

    run(work())
    assert seen == ["lifespan.startup", "lifespan.shutdown"]


def test_the_state_that_the_application_fills_is_what_requests_get(run: Run) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        scope["state"]["pool"] = 1
        await send({"type": "lifespan.startup.complete"})
        await receive()

    async def work() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        assert lifespan.state == {"pool": 1}
        await lifespan.shutdown()

    run(work())


@pytest.mark.parametrize("error", [AssertionError("http only"), KeyError("path"), NotImplementedError()])
def test_an_application_without_lifespan_is_fine(run: Run, error: Exception) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def work() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        await lifespan.shutdown()

    run(work())


def test_an_application_that_returns_at_once_is_fine(run: Run) -> None:
    async def work() -> None:
        lifespan = Lifespan(scripted())
        await lifespan.startup()
        await lifespan.shutdown()

    run(work())


def test_an_exception_during_the_startup_fails_it(run: Run) -> None:
    async def work() -> None:
        with pytest.raises(RuntimeError, match="no database"):
            await Lifespan(scripted(RuntimeError("no database"))).startup()

    run(work())


def test_a_startup_that_says_it_failed_gives_the_message(run: Run) -> None:
    async def work() -> None:
        with pytest.raises(BootError, match=r"lifespan startup failed: the reason"):
            await Lifespan(scripted("lifespan.startup.failed")).startup()

    run(work())


def test_a_startup_that_says_it_failed_and_raises_why_gives_the_exception_itself(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "a traceback as text"})
        raise RuntimeError("no database")

    async def work() -> None:
        with pytest.raises(RuntimeError, match="no database"):
            await Lifespan(app).startup()

    run(work())


def test_a_failing_shutdown_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        for last in ("lifespan.shutdown.failed", RuntimeError("oh")):
            lifespan = Lifespan(scripted("lifespan.startup.complete", last))
            await lifespan.startup()
            await lifespan.shutdown()

    run(work())
    assert "lifespan shutdown failed: the reason" in caplog.text
    assert "RuntimeError: oh" in caplog.text


def test_an_application_that_ended_after_its_startup_needs_no_shutdown(run: Run) -> None:
    async def work() -> None:
        lifespan = Lifespan(scripted("lifespan.startup.complete"))
        await lifespan.startup()
        await asyncio.sleep(0)
        await lifespan.shutdown()

    run(work())
