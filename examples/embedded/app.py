"""What `main.py` starts: an application that answers HTTP and its parent."""

from fastapi import FastAPI

from eggcluster import Application

api = FastAPI()
app = Application(api)


@app.messenger.on("square")
def square(number: int) -> dict[str, int]:
    return {"slot": app.slot, "result": number * number}


@api.get("/hello/{name}")
async def hello(name: str) -> str:
    app.messenger.send_to_parent("greeted", name)
    return f"Hello {name}, this is app_worker#{app.slot}."
