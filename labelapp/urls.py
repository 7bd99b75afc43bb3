"""Every route, in the order of the path."""

from django.urls import include, path

from labelapp import health
from labelapp.accounts import views as accounts

urlpatterns = [
    path("", accounts.home, name="home"),
    path("accounts/", include("allauth.account.urls")),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
