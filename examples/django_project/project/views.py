"""Views; an async one runs in the worker's own thread, and may wait for the agent's answer."""

import threading

from django.http import HttpRequest, HttpResponse, JsonResponse

from eggcluster import MessengerError, messenger


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello; try /visits/anything\n", content_type="text/plain")


async def visit(request: HttpRequest, page: str) -> JsonResponse:
    try:
        count = await messenger.request("visit", page, to="agent", timeout=5)
    except MessengerError as error:
        return JsonResponse({"error": str(error)}, status=503)
    return JsonResponse({"page": page, "visits": count, "worker": threading.get_native_id()})
