"""Routes of the rounds, below /p/<project>/."""

from django.urls import path

from labelapp.rounds import events, views

urlpatterns = [
    path("rounds/", views.rounds, name="rounds"),
    path("rounds/new/", views.round_new, name="round_new"),
    path("rounds/schedule/", views.round_schedule, name="round_schedule"),
    path("rounds/<int:number>/", views.round_page, name="round"),
    path("rounds/<int:number>/cancel/", views.round_cancel, name="round_cancel"),
    path("rounds/<int:number>/events", events.round_events, name="round_events"),
    path("rounds/<int:number>/<slug:stage>/<str:name>", views.round_file, name="round_file"),
]
