"""Every route, in the order of the path."""

from django.urls import include, path

from labelapp.accounts import views as accounts

urlpatterns = [
    path("", accounts.home, name="home"),
    path("accounts/", include("allauth.account.urls")),
]
