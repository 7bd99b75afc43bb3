"""The pages of the versions and of the alias: who may, what they say, what a click does."""

import json
import re

import pytest
from django.test import Client
from django.urls import reverse

from labelapp.models import Deployment, DeploymentEvent, EngineVersion, Round
from labelapp.rounds.promote import deployment_of, promote, rollback
from tests.factories import add_member, make_project, make_prompt, make_user, make_version
from tests.gate.rounds import audit, make_passing, make_policy


@pytest.fixture
def admin(db):
    return make_user()


@pytest.fixture
def project(admin):
    return make_project("arguments", admin=admin)


@pytest.fixture
def signed_in(client, admin):
    client.force_login(admin)
    return client


def text_of(response) -> str:
    """What a reader sees, in one line."""
    body = response.content.decode().split("<main", 1)[-1]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def switch(signed_in, path: str, **data):
    seen = Deployment.objects.get().epoch if Deployment.objects.exists() else 0
    return signed_in.post(path, {"seen_epoch": seen, **data})


def paths(project, version, audit_id: int) -> dict[str, list[str]]:
    root = f"/p/{project.slug}"
    reading = [f"{root}/versions/", f"{root}/versions/{version.name}/", f"{root}/deployment/",
               f"{root}/audits/{audit_id}/result.json"]  # fmt: skip
    managing = [f"{root}/versions/{version.name}/promote/", f"{root}/deployment/rollback/",
                f"{root}/deployment/cancel/", f"{root}/sample/"]  # fmt: skip
    return {"reading": reading, "managing": managing}


def test_strangers_find_nothing_and_labelers_and_researchers_stay_in_their_role(client, project, admin, tmp_path):
    first, version = make_passing(project, tmp_path), make_passing(project, tmp_path)
    promote(deployment=deployment_of(project), version=first, by=admin, seen_epoch=0)
    routes = paths(project, version, version.audits.get().pk)
    everything = routes["reading"] + routes["managing"]

    for path in everything:
        assert client.get(path).status_code in {302, 405}, path  # to the sign-in page
        assert client.post(path).status_code in {302, 405}, path
    client.force_login(make_user())
    for path in everything:
        assert client.get(path).status_code in {404, 405}, path
        assert client.post(path).status_code in {404, 405}, path

    for role in ("labeler", "reviewer"):
        client.force_login(member := make_user())
        add_member(project, member, role)
        for path in everything:
            assert client.get(path).status_code in {403, 405}, path
            assert client.post(path).status_code in {403, 405}, path

    client.force_login(researcher := make_user())
    add_member(project, researcher, "researcher")
    for path in routes["reading"]:
        assert client.get(path).status_code == 200, path
    for path in routes["managing"]:
        assert client.post(path, {"seen_epoch": 1, "reason": "let me"}).status_code == 403, path
    assert "Promote…" not in text_of(client.get(routes["reading"][0]))
    assert DeploymentEvent.objects.count() == 1


def test_a_switch_without_a_csrf_token_is_refused(admin, project, tmp_path):
    version = make_passing(project, tmp_path)
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)

    for path in paths(project, version, version.audits.get().pk)["managing"]:
        assert client.post(path, {"seen_epoch": 0}).status_code == 403
    assert not DeploymentEvent.objects.exists()


def test_a_version_of_another_project_is_not_shown_under_this_one(signed_in, project, tmp_path):
    foreign = make_passing(make_project(), tmp_path)

    for path in paths(project, foreign, foreign.audits.get().pk)["reading"][1::2]:
        assert signed_in.get(path).status_code == 404
    assert signed_in.get(f"/p/{project.slug}/versions/{foreign.name}/promote/").status_code == 404


def test_the_list_shows_lineage_and_figures_and_says_what_lies_below_a_baseline(signed_in, project, tmp_path):
    parent = make_policy(project, tmp_path)
    version = make_policy(project, tmp_path, parent=parent)
    found = audit(version, tmp_path, reward_accuracy={"value": 0.70})

    said = text_of(signed_in.get(f"/p/{project.slug}/versions/"))

    assert "58.0 % [54.0, 62.0] win rate against the parent" in said
    assert "below the trivial baseline longer wins (77.0 %)" in said
    assert parent.name in said and "not measured" in said
    body = signed_in.get(f"/p/{project.slug}/versions/").content.decode()
    assert f'/versions/{version.name}/#metric-{found.metrics.get(key="win_rate").pk}"' in body


def test_a_versions_page_holds_every_figure_with_its_interval_and_its_row(signed_in, project, tmp_path):
    version = make_passing(project, tmp_path)
    child = make_version(project, parent=version)

    response = signed_in.get(f"/p/{project.slug}/versions/{version.name}/")

    said, body = text_of(response), response.content.decode()
    assert version.digest in said and child.name in said
    for metric in version.audits.get().metrics.all():
        assert f'id="metric-{metric.pk}"' in body
    source = reverse("audit_result", args=[project.slug, version.audits.get().pk])
    assert body.count(f'href="{source}"') == 1 + version.audits.get().metrics.count()
    assert "Held-out reward accuracy 80.0 % [78.0, 83.0] 500 12 longer wins 77.0 % tf-idf 72.0 % pass" in said
    assert "KL to the parent 4.1 nats [3.9, 4.4] 500 12 – reported only" in said


def test_the_mitigations_two_arms_stand_side_by_side(signed_in, project, tmp_path):
    version = make_policy(project, tmp_path)
    audit(version, tmp_path, accuracy_price={"value": -0.033, "low": -0.083, "high": 0.005, "unit": "share"},
          counterfactual_flip_rate_change={"value": -0.065, "low": -0.08, "high": -0.05, "unit": "share"})  # fmt: skip

    said = text_of(signed_in.get(f"/p/{project.slug}/versions/{version.name}/"))

    assert "Verdicts that flip when gender words swap 8.5 % 2.0 % −6.5 pp [−8.0, −5.0]" in said
    assert "Accuracy price of the mitigation −3.3 pp [−8.3, 0.5]" in said


def test_the_result_file_is_served_byte_for_byte_or_not_at_all(signed_in, project, tmp_path):
    version = make_passing(project, tmp_path)
    found = version.audits.get()
    path = f"/p/{project.slug}/audits/{found.pk}/result.json"

    response = signed_in.get(path)
    assert response.content == (tmp_path / f"result-{version.pk}.json").read_bytes()
    assert response["Content-Type"] == "application/json"
    assert json.loads(response.content)["status"] == "done"

    (tmp_path / f"result-{version.pk}.json").write_text("{}")
    changed = signed_in.get(path)
    assert changed.status_code == 409
    assert found.result_sha256 in changed.content.decode()

    (tmp_path / f"result-{version.pk}.json").unlink()
    assert signed_in.get(path).status_code == 404


def test_a_click_promotes_what_passed_and_another_rolls_it_back(signed_in, project, admin, tmp_path):
    first, second = make_passing(project, tmp_path), make_passing(project, tmp_path)
    promote(deployment=deployment_of(project), version=first, by=admin, seen_epoch=0)
    path = f"/p/{project.slug}/versions/{second.name}/promote/"

    asked = signed_in.get(path)
    assert "Every figure that it judges is within its limits" in text_of(asked)
    assert "required" not in asked.content.decode().split("<textarea")[1].split(">")[0]
    assert switch(signed_in, path).status_code == 302

    said = text_of(signed_in.get(f"/p/{project.slug}/versions/"))
    assert f"policy answers from {second.name} since epoch 2" in said
    assert f"Roll back to {first.name}" in said

    asked = text_of(signed_in.get(f"/p/{project.slug}/deployment/rollback/"))
    assert f"Roll back to {first.name}?" in asked
    switch(signed_in, f"/p/{project.slug}/deployment/rollback/", reason="it rambles")
    last = DeploymentEvent.objects.first()
    assert (last.epoch, last.version, last.by, last.reason) == (3, first, admin, "it rambles")


def test_against_the_gate_a_reason_must_be_typed(signed_in, project, tmp_path):
    version = make_policy(project, tmp_path)
    audit(version, tmp_path, win_rate={"low": 0.4})
    path = f"/p/{project.slug}/versions/{version.name}/promote/"

    asked = signed_in.get(path)
    assert "not told apart from the parent" in text_of(asked)
    assert "required" in asked.content.decode().split("<textarea")[1].split(">")[0]

    refused = switch(signed_in, path)
    assert refused.status_code == 409
    assert "give a reason to promote it anyway" in text_of(refused)

    switch(signed_in, path, reason="nothing better is at hand")
    assert DeploymentEvent.objects.get().reason == "nothing better is at hand"


def test_who_saw_an_older_epoch_is_shown_what_is_true_now_and_keeps_their_words(signed_in, project, admin, tmp_path):
    first, second = make_passing(project, tmp_path), make_passing(project, tmp_path)
    promote(deployment=deployment_of(project), version=first, by=admin, seen_epoch=0)

    old = {"seen_epoch": 0, "reason": "my words"}
    refused = signed_in.post(f"/p/{project.slug}/versions/{second.name}/promote/", old)

    assert refused.status_code == 409
    body = refused.content.decode()
    assert "has moved to epoch 1" in body and "my words" in body
    assert 'name="seen_epoch" value="1"' in body
    assert Deployment.objects.get().version == first


NONSENSE = [{}, {"seen_epoch": "x"}, {"seen_epoch": -1}, {"seen_epoch": 0, "reason": "a" * 2001}]


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_form_that_makes_no_sense_moves_nothing(signed_in, project, tmp_path, nonsense):
    version = make_passing(project, tmp_path)

    assert signed_in.post(f"/p/{project.slug}/versions/{version.name}/promote/", nonsense).status_code == 409
    assert not DeploymentEvent.objects.exists()


def test_while_a_version_loads_its_section_asks_again_and_shows_the_time(signed_in, project, tmp_path):
    version = make_passing(project, tmp_path, loaded=False)
    switch(signed_in, f"/p/{project.slug}/versions/{version.name}/promote/")

    first = signed_in.get(f"/p/{project.slug}/versions/")
    assert re.search(r"has been loading for \d+ s", text_of(first))
    assert 'hx-trigger="every 1s"' in first.content.decode()

    section = signed_in.get(f"/p/{project.slug}/deployment/", headers={"HX-Request": "true"})
    assert section.content.decode().startswith('<section id="deployment"')
    assert "HX-Refresh" not in section.headers
    EngineVersion.objects.create(version=version, state="loading")
    assert "The engine says: loading" in text_of(signed_in.get(f"/p/{project.slug}/deployment/"))

    signed_in.post(f"/p/{project.slug}/deployment/cancel/")
    assert signed_in.get(f"/p/{project.slug}/deployment/").headers["HX-Refresh"] == "true"
    assert "The switch was cancelled" in text_of(signed_in.get(f"/p/{project.slug}/versions/"))
    signed_in.post(f"/p/{project.slug}/deployment/cancel/")
    assert "No switch is waiting" in text_of(signed_in.get(f"/p/{project.slug}/versions/"))


def test_without_an_earlier_version_the_rollback_page_says_so(signed_in, project):
    signed_in.get(f"/p/{project.slug}/deployment/rollback/")

    assert "no earlier version" in text_of(signed_in.get(f"/p/{project.slug}/versions/"))


def test_the_gates_sentences_are_escaped(signed_in, project, tmp_path):
    version = make_policy(project, tmp_path)
    audit(version, tmp_path, win_rate={"value": None, "note": "<script>alert(1)</script>"})

    for path in (f"versions/{version.name}/", f"versions/{version.name}/promote/"):
        assert b"<script>alert" not in signed_in.get(f"/p/{project.slug}/{path}").content


def test_a_click_samples_new_comparisons(signed_in, project, admin, tmp_path):
    make_prompt(project, fresh=True)
    empty = text_of(signed_in.get(f"/p/{project.slug}/versions/"))
    assert "Promote a version first" in empty
    signed_in.post(f"/p/{project.slug}/sample/", {"prompts": 3, "temperature": 1, "max_new_tokens": 8})
    assert "promote a version first" in text_of(signed_in.get(f"/p/{project.slug}/versions/"))
    promote(deployment=deployment_of(project), version=make_passing(project, tmp_path), by=admin, seen_epoch=0)

    said = text_of(signed_in.get(f"/p/{project.slug}/versions/"))
    assert "compared with itself" in said and "1 fresh prompt is left" in said
    assert signed_in.post(f"/p/{project.slug}/sample/", {"prompts": 0}).status_code == 302
    assert not Round.objects.filter(kind="sampling").exists()

    started = signed_in.post(f"/p/{project.slug}/sample/", {"prompts": 3, "temperature": 0.7, "max_new_tokens": 8})
    round = Round.objects.get(kind="sampling")
    assert started.url == f"/p/{project.slug}/rounds/{round.number}/"
    assert (round.created_by, round.recipe["stages"][0]["config"]["temperature"]) == (admin, 0.7)


def test_a_rollback_that_is_not_the_epoch_they_saw_is_refused(signed_in, project, admin, tmp_path):
    deployment = deployment_of(project)
    for seen in range(2):
        promote(deployment=deployment, version=make_passing(project, tmp_path), by=admin, seen_epoch=seen)
    rollback(deployment=deployment, by=admin, seen_epoch=2)

    assert signed_in.post(f"/p/{project.slug}/deployment/rollback/", {"seen_epoch": 2}).status_code == 409
    assert DeploymentEvent.objects.count() == 3


def test_a_blocked_candidate_is_no_finished_step_of_the_loop(signed_in, project, tmp_path):
    first = make_passing(project, tmp_path)
    gate = {step.name: step.state for step in signed_in.get(f"/p/{project.slug}/").context["steps"]}["Gate"]
    assert gate == "done"
    audit(make_policy(project, tmp_path, parent=first), tmp_path, reward_accuracy={"low": 0.4})
    gate = {step.name: step.state for step in signed_in.get(f"/p/{project.slug}/").context["steps"]}["Gate"]
    assert gate == "halted"
