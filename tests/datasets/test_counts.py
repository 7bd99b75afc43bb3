"""Counts of a project: of this moment while counting is quick, of the background task where it is not."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from labelapp.datasets import counts
from labelapp.datasets.counts import project_counts, refresh_counts
from labelapp.models import ProjectCounts
from labelapp.tasks import count_queues
from tests.factories import make_comparison, make_project, make_user


@pytest.fixture
def project(db):
    return make_project("debates", admin=make_user("adm"))


def test_a_small_project_is_counted_at_once(project):
    count_queues()
    make_comparison(project)
    assert project_counts(project)["comparisons"] == 1 and project_counts(project)["as_of"] is None


def test_of_a_large_one_the_stored_figures_are_shown_with_their_time(client, project, monkeypatch):
    make_comparison(project)
    refresh_counts()
    ProjectCounts.objects.update(count_seconds=3)
    monkeypatch.setattr(counts, "count_rows", lambda project: pytest.fail("counted in a request"))
    found = project_counts(project)
    assert (found["open"], found["as_of"]) == (1, ProjectCounts.objects.get().counted_at)
    client.force_login(project.memberships.get().user)
    for name in ("project", "data"):
        assert b"There is much to count" in client.get(reverse(name, args=["debates"])).content


def test_what_took_long_is_counted_again_rarely_and_only_after_a_change(project):
    def counted() -> int:
        refresh_counts()
        return ProjectCounts.objects.get().figures["comparisons"]

    assert counted() == 0
    ProjectCounts.objects.update(count_seconds=2)
    make_comparison(project)
    assert counted() == 0
    ProjectCounts.objects.update(counted_at=timezone.now() - timedelta(seconds=101))
    assert counted() == 1
    before = ProjectCounts.objects.get().counted_at
    ProjectCounts.objects.update(count_seconds=0)
    refresh_counts()
    assert ProjectCounts.objects.get().counted_at == before
