"""Django's cache without Redis: what one worker computes all have, and what they count they count together."""

import os

from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from eggcluster import Application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")


def compute() -> dict[str, object]:
    return {"by": app.worker_id, "squares": [number**2 for number in range(10)]}


def report(request: HttpRequest) -> JsonResponse:
    """Read from this worker's own memory; computed again after a minute, by the worker that needs it first."""
    return JsonResponse({"worker": app.worker_id, "report": cache.get_or_set("report", compute)})


def forget(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"was there": cache.delete("report")})


def visit(request: HttpRequest, page: str) -> JsonResponse:
    cache.add(f"visits:{page}", 0, timeout=None)
    return JsonResponse({"worker": app.worker_id, "visits": cache.incr(f"visits:{page}")})  # each number once


urlpatterns = [path("report", report), path("forget", forget), path("visits/<slug:page>", visit)]
app = Application(get_wsgi_application())
