"""Routes of the rounds, below /p/<project>/."""

from django.urls import path

from labelapp.rounds import compute_views, events, launch_views, recipe_views, views
from labelapp.rounds.notices import views as notices

urlpatterns = [
    path("rounds/", views.rounds, name="rounds"),
    path("rounds/new/", launch_views.round_new, name="round_new"),
    path("rounds/estimates/<int:estimate>/", launch_views.round_estimate, name="round_estimate"),
    path("rounds/compute/", compute_views.compute, name="rounds_compute"),
    path("rounds/recipes/", recipe_views.recipes, name="recipes"),
    path("rounds/recipes/<int:version>/clone/", recipe_views.recipe_clone, name="recipe_clone"),
    path("rounds/compare/", recipe_views.compare, name="rounds_compare"),
    path("rounds/schedule/", views.round_schedule, name="round_schedule"),
    path("rounds/notices/", notices.notices, name="notices"),
    path("rounds/notices/email/", notices.notices_email, name="notices_email"),
    path("rounds/notices/<int:pk>/trial/", notices.notices_trial, name="notices_trial"),
    path("rounds/notices/<int:pk>/end/", notices.notices_end, name="notices_end"),
    path("rounds/<int:number>/", views.round_page, name="round"),
    path("rounds/<int:number>/cancel/", views.round_cancel, name="round_cancel"),
    path("rounds/<int:number>/resume/", views.round_resume, name="round_resume"),
    path("rounds/<int:number>/events", events.round_events, name="round_events"),
    path("rounds/<int:number>/<slug:stage>/<str:name>", views.round_file, name="round_file"),
]
