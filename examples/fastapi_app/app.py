"""A FastAPI application: every worker receives every note, and asks the agent for the total."""

from fastapi import FastAPI

from eggcluster import Application

api = FastAPI()
app = Application(api)


@app.on_start
def begin() -> None:
    app.local.heard = []


@app.messenger.on("note")
def remember(text: str) -> None:
    app.local.heard.append(text)


@api.post("/notes/{text}")
async def write(text: str) -> dict[str, int]:
    app.messenger.send_to_app("note", text)
    return {"total": await app.messenger.request("count", text, to="agent", timeout=5)}


@api.get("/notes")
async def read() -> dict[str, object]:
    return {"worker": f"app_worker#{app.slot}:{app.worker_id}", "heard": app.local.heard}
