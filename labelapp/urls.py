"""Every route, in the order of the path."""

from django.urls import include, path

from labelapp import health
from labelapp.accounts import views as accounts
from labelapp.accounts.join_views import join_page
from labelapp.datasets.urls import api_routes as dataset_api
from labelapp.datasets.urls import page_routes as dataset_pages
from labelapp.leaderboard.urls import api_routes as leaderboard_api
from labelapp.leaderboard.urls import page_routes as leaderboard_pages
from labelapp.serving.urls import api_routes, page_routes

urlpatterns = [
    path("", accounts.home, name="home"),
    path("accounts/", include("allauth.account.urls")),
    path("join/<str:token>/", join_page, name="join"),
    path("", include("labelapp.labeling.setup.urls")),
    path("p/<slug:slug>/", include("labelapp.labeling.urls")),
    path("p/<slug:slug>/", include("labelapp.labeling.overview.urls")),
    path("p/<slug:slug>/", include(dataset_pages)),
    path("api/", include(dataset_api)),
    path("p/<slug:slug>/", include("labelapp.rounds.urls")),
    path("p/<slug:slug>/", include("labelapp.rounds.version_urls")),
    path("p/<slug:slug>/lineage/", include("labelapp.lineage.urls")),
    path("p/<slug:slug>/", include(leaderboard_pages)),
    path("api/", include(leaderboard_api)),
    path("p/<slug:slug>/serving/", include(page_routes)),
    path("p/<slug:slug>/chat/", include("labelapp.chat.urls")),
    path("v1/", include(api_routes)),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
