"""The API, and the page about it."""

from django.urls import path, re_path

from labelapp.serving import api, views

api_routes = [
    path("models", api.models, name="api-models"),
    path("models/<path:model>", api.model, name="api-model"),
    path("chat/completions", api.chat_completions, name="api-chat-completions"),
    path("completions", api.completions, name="api-completions"),
    re_path("^.*$", api.unknown_route),
]

page_routes = [
    path("", views.serving, name="serving"),
    path("state/", views.state, name="serving-state"),
    path("keys/", views.add_key, name="add-key"),
    path("keys/<int:key>/revoke/", views.revoke, name="revoke-key"),
]
