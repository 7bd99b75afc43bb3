"""Routes under /p/<slug>/chat/."""

from django.urls import path

from labelapp.chat import events, model_views, views

urlpatterns = [
    path("", views.chat, name="chat"),
    path("ask/", views.ask, name="chat-ask"),
    path("turns/<int:turn>/events/", events.turn_events, name="chat-events"),
    path("turns/<int:turn>/judge/", views.judge, name="chat-judge"),
    path("turns/<int:turn>/again/", views.again, name="chat-again"),
    path("turns/<int:turn>/go-on/", views.go_on, name="chat-go-on"),
    path("<int:conversation>/", views.past, name="chat-past"),
    path("<int:conversation>/end/", views.end, name="chat-end"),
    path("models/", model_views.models, name="chat-models"),
    path("models/add/", model_views.add, name="chat-add-model"),
    path("models/<int:model>/test/", model_views.test, name="chat-test-model"),
    path("models/<int:model>/switch/", model_views.turn_on_or_off, name="chat-switch-model"),
]
