"""A Django application without middleware that says hello. Runs in the workers of the benchmark's WSGI servers."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], MIDDLEWARE=[], ROOT_URLCONF=__name__, SECRET_KEY="benchmark")


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello world", content_type="text/plain")


urlpatterns = [path("", hello)]
app = get_wsgi_application()
