"""A FastAPI application that answers with JSON. Runs in the workers of the engine benchmark's ASGI servers."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def hello() -> dict[str, object]:
    return {"message": "hello world", "numbers": [1, 2, 3]}
