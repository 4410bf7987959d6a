"""The view that answers each path."""

from django.urls import path

from . import views

urlpatterns = [path("", views.home), path("visits/<slug:page>", views.visit)]
