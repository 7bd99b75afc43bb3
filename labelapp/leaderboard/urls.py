"""The page below /p/<project>/, and the same numbers below /api/."""

from django.urls import path

from labelapp.leaderboard import views

page_routes = [path("leaderboard/", views.leaderboard, name="leaderboard")]
api_routes = [
    path("projects/<slug:slug>/leaderboard", views.Leaderboard.as_view(), name="api-leaderboard"),
    path("projects/<slug:slug>/leaderboard.csv", views.LeaderboardFile.as_view(), name="api-leaderboard-file"),
]
