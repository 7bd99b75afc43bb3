"""Pages under /p/<slug>/, and the REST API under /api/."""

from django.urls import path

from labelapp.datasets import api, bulk_views, gold_views, project_views, row_views, views

page_routes = [
    path("", project_views.project, name="project"),
    path("data/", views.data, name="data"),
    path("data/import/", views.import_file, name="data_import"),
    path("data/freeze/", views.freeze, name="data_freeze"),
    path("data/prompts/", row_views.prompts, name="prompts"),
    path("data/judgments/", row_views.judgments, name="judgments"),
    path("data/comparisons/", row_views.comparisons, name="comparisons"),
    path("data/comparisons/review/", bulk_views.review, name="comparisons_review"),
    path("data/comparisons/change/", bulk_views.change, name="comparisons_change"),
    path("data/changes/", bulk_views.changes, name="bulk_changes"),
    path("data/changes/<int:number>/", bulk_views.one_change, name="bulk_change"),
    path("data/comparisons/<int:number>/", row_views.comparison, name="comparison"),
    path("data/comparisons/<int:number>/gold/", gold_views.gold, name="comparison_gold"),
    path("data/comparisons/<int:number>/gold/remove/", gold_views.gold_remove, name="comparison_gold_remove"),
    path("snapshots/<slug:digest>/", views.snapshot, name="snapshot"),
    path("snapshots/<slug:digest>/<str:name>", views.snapshot_file, name="snapshot_file"),
]

api_routes = [
    path("projects/<slug:slug>/snapshots", api.Snapshots.as_view(), name="api-snapshots"),
    path("projects/<slug:slug>/snapshots/<slug:digest>", api.OneSnapshot.as_view(), name="api-snapshot"),
    path(
        "projects/<slug:slug>/snapshots/<slug:digest>/files/<str:name>",
        api.SnapshotFile.as_view(),
        name="api-snapshot-file",
    ),
]
