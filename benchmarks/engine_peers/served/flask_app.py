"""A Flask application that says hello. Runs in the workers of the engine benchmark's WSGI servers."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "hello world"
