"""Routes of the setup pages, and of a new project."""

from django.urls import include, path

from labelapp.labeling.setup import protocol_views, text_views
from labelapp.labeling.setup import views as setup_views

texts = [
    path(f"{name}/", text_views.text_page, {"name": name}, name=f"setup_{name}") for name in text_views.KINDS
]
texts += [
    path(f"{name}/preview/", text_views.text_preview, {"name": name}, name=f"setup_{name}_preview")
    for name in text_views.KINDS
]
texts += [
    path(f"{name}/versions/", text_views.text_versions, {"name": name}, name=f"setup_{name}_versions")
    for name in text_views.KINDS
]

pages = [
    path("", setup_views.overview, name="setup"),
    path("project/", setup_views.describe, name="setup_project"),
    path("protocol/", protocol_views.compose, name="setup_protocol"),
    path("protocol/preview/", protocol_views.preview, name="setup_protocol_preview"),
    path("protocol/versions/", protocol_views.versions, name="setup_protocol_versions"),
    *texts,
    path("guidelines/reask/", text_views.guidelines_reask, name="setup_guidelines_reask"),
    path("consent/required/", text_views.consent_required, name="setup_consent_required"),
    path("queue/", setup_views.rules, name="setup_queue"),
    path("queue/extend/", setup_views.extend, name="setup_queue_extend"),
]

urlpatterns = [
    path("new/", setup_views.project_new, name="project_new"),
    path("p/<slug:slug>/setup/", include(pages)),
]
