"""Routes under /p/<slug>/."""

from django.urls import path

from labelapp.labeling import dashboard_views, views

urlpatterns = [
    path("label/", views.label, name="label"),
    path("label/undo/", views.undo, name="label_undo"),
    path("label/skip/", views.skip, name="label_skip"),
    path("label/draft/", views.draft, name="label_draft"),
    path("label/heartbeat/", views.heartbeat, name="label_heartbeat"),
    path("labeling/", dashboard_views.dashboard, name="labeling"),
]
