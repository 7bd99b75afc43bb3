"""Routes of the people of a project, under /p/<slug>/."""

from django.urls import path

from labelapp.labeling.overview import people_views as views

urlpatterns = [
    path("people/", views.people, name="people"),
    path("people/invite/", views.people_invite, name="people_invite"),
    path("people/invitations/<int:number>/revoke/", views.people_revoke, name="people_revoke"),
    path("people/<int:number>/", views.person, name="person"),
    path("people/<int:number>/change/", views.person_change, name="person_change"),
    path("people/<int:number>/pause/", views.person_pause, name="person_pause"),
    path("people/<int:number>/resume/", views.person_resume, name="person_resume"),
    path("people/<int:number>/let-in/", views.person_let_in, name="person_let_in"),
    path("people/<int:number>/try-again/", views.person_try_again, name="person_try_again"),
    path("people/<int:number>/remove/", views.person_remove, name="person_remove"),
]
