"""A Flask application (WSGI): a view runs in a thread and tells the agent; the agent tells all workers the sum."""

from flask import Flask

from eggcluster import Application, messenger

web = Flask(__name__)
app = Application(web)


@app.on_start
def begin() -> None:
    app.local.visits = {}


@app.messenger.on("visits")
def update(counted: dict[str, int]) -> None:
    app.local.visits = counted


@web.get("/pages/<name>")
def page(name: str) -> str:
    messenger.send_to_agent("visit", name)  # returns at once, from any thread
    return f"This is {name}.\n"


@web.get("/visits")
def show() -> dict[str, object]:
    return {"worker": app.worker_id, "visits": app.local.visits}
