"""Routes under /p/<slug>/."""

from django.urls import path

from labelapp.labeling import labeler_views, views
from labelapp.labeling.overview import views as dashboard_views
from labelapp.labeling.reviews import views as review_views

urlpatterns = [
    path("label/", views.label, name="label"),
    path("label/undo/", views.undo, name="label_undo"),
    path("label/skip/", views.skip, name="label_skip"),
    path("label/draft/", views.draft, name="label_draft"),
    path("label/heartbeat/", views.heartbeat, name="label_heartbeat"),
    path("label/consent/", labeler_views.consent, name="label_consent"),
    path("label/guidelines/", labeler_views.guidelines, name="label_guidelines"),
    path("label/guidelines/seen/", labeler_views.guidelines_seen, name="label_guidelines_seen"),
    path("label/mine/", labeler_views.mine, name="label_mine"),
    path("label/mine/<int:judgment_id>/", labeler_views.change, name="label_change"),
    path("label/summary/", labeler_views.summary, name="label_summary"),
    path("review/", review_views.review, name="review"),
    path("review/<int:judgment_id>/", review_views.review_judgment, name="review_judgment"),
    path("review/history/", review_views.review_history, name="review_history"),
    path("labeling/", dashboard_views.dashboard, name="labeling"),
]
