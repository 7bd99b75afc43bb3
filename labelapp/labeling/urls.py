"""Routes under /p/<slug>/."""

from django.urls import path

from labelapp.labeling import views

urlpatterns = [
    path("label/", views.label, name="label"),
    path("label/undo/", views.undo, name="label_undo"),
    path("label/heartbeat/", views.heartbeat, name="label_heartbeat"),
]
