"""Routes of the versions and of the alias, below /p/<project>/."""

from django.urls import path

from labelapp.rounds import gate_views, plan_views, trial_views
from labelapp.rounds import version_views as views

urlpatterns = [
    path("versions/", views.versions, name="versions"),
    path("versions/<slug:name>/", views.version, name="version"),
    path("versions/<slug:name>/promote/", views.promote, name="promote"),
    path("versions/<slug:name>/trial/", trial_views.trial_new, name="trial_new"),
    path("trials/<int:number>/", trial_views.trial, name="trial"),
    path("trials/<int:number>/end/", trial_views.trial_end, name="trial_end"),
    path("gate/", gate_views.gate, name="gate"),
    path("overrides/<int:override>/confirm/", gate_views.confirm, name="override_confirm"),
    path("overrides/<int:override>/withdraw/", gate_views.withdraw, name="override_withdraw"),
    path("audits/<int:audit>/result.json", views.audit_result, name="audit_result"),
    path("deployment/", views.deployment, name="deployment"),
    path("deployment/rollback/", views.rollback, name="rollback"),
    path("deployment/cancel/", views.cancel_switch, name="cancel_switch"),
    path("sample/", views.sample, name="sample"),
    path("plans/", plan_views.plans, name="plans"),
    path("plans/add/", plan_views.plan_add, name="plan_add"),
    path("plans/compare/", plan_views.arms_compare, name="arms_compare"),
    path("plans/<int:number>/run/", plan_views.plan_run, name="plan_run"),
    path("plans/<int:number>/remove/", plan_views.plan_remove, name="plan_remove"),
]
