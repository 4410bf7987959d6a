"""Flask-Limiter over all workers, without Redis: the agent counts, so a limit holds for the cluster as a whole."""

from flask import Flask, request
from flask_limiter import Limiter

import eggcluster.integrations.limits  # noqa: F401  # registers eggcluster://
from eggcluster import Application


def client() -> str:
    return request.headers.get("x-api-key", "anonymous")


web = Flask(__name__)
limiter = Limiter(
    client,
    app=web,
    storage_uri="eggcluster://?unavailable=serve",  # serve while the agent is being replaced; the default is to refuse
    strategy="moving-window",
    default_limits=["10/minute"],
    headers_enabled=True,  # X-RateLimit-Remaining and the like
)
app = Application(web)


@web.get("/")
def hello() -> dict[str, int]:
    return {"worker": app.worker_id}


@web.get("/reports")
@limiter.limit("3/hour")  # instead of the default
def report() -> dict[str, object]:
    return {"worker": app.worker_id, "report": "all eggs are fine"}
