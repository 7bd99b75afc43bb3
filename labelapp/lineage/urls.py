"""Routes below /p/<project>/lineage/."""

from django.urls import path

from labelapp.lineage import views

urlpatterns = [
    path("", views.lineage, name="lineage"),
    path("sources/<int:number>/", views.lineage_source, name="lineage_source"),
    path("answers/<slug:name>/", views.lineage_answers, name="lineage_answers"),
    path("compared/<int:number>/", views.lineage_compared, name="lineage_compared"),
    path("annotators/<path:annotator>/", views.lineage_annotator, name="lineage_annotator"),
    path("<slug:kind>/<str:key>/", views.lineage_of, name="lineage_of"),
]
