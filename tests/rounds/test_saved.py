"""Recipes that a project keeps: saved, versioned, cloned, launched, and who may do that."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import ProtectedError

from labelapp.models import Recipe, RecipeVersion, Round, Schedule
from labelapp.rounds import schedule
from labelapp.rounds.actions import launch_round, request_cancel
from labelapp.rounds.presets import PRESETS
from labelapp.rounds.recipes import OptionRefused
from labelapp.rounds.saved import RecipeRefused, clone_recipe, save_recipe
from tests.factories import make_project, make_user
from tests.rounds.material import make_parent, make_snapshot
from tests.rounds.test_schedule import arrange, judge

pytestmark = pytest.mark.django_db
CHANGES = {"preference.beta": 0.3, "reward.lora": {"rank": 4}}


@pytest.fixture
def project():
    return make_project(admin=make_user(), researcher=make_user(), labeler=make_user())


@pytest.fixture
def admin(project):
    return project.memberships.get(role="admin").user


@pytest.fixture
def given(project):
    return {"project": project, "snapshot": make_snapshot(project), "parent": make_parent(project)}


def keep(project, name: str = "Gentle DPO", **fields) -> RecipeVersion:
    by = project.memberships.get(role="admin").user
    return save_recipe(project=project, name=name, by=by, **({"preset": "reward-dpo", "changes": CHANGES} | fields))[0]


def form_of(given, **fields) -> dict:
    return {"recipe": "reward-dpo", "snapshot": given["snapshot"].pk, "parent": given["parent"].pk} | fields


def post(client, project, role: str = "admin", **fields):
    client.force_login(project.memberships.get(role=role).user)
    return client.post(f"/p/{project.slug}/rounds/new/", fields)


def test_saving_under_a_name_again_is_the_next_version_and_saving_the_same_is_none(project):
    first = keep(project)
    assert (first.number, first.stages[1]["config"]["beta"]) == (1, 0.3)
    assert keep(project) == first
    second = keep(project, "  Gentle   DPO ", changes={"preference.beta": 0.2})
    assert (second.recipe, second.number) == (first.recipe, 2)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [({"name": "  "}, RecipeRefused), ({"name": "n" * 81}, RecipeRefused), ({"note": "n" * 501}, RecipeRefused),
     ({"changes": {"preference.beta": -1}}, OptionRefused), ({"preset": "nothing"}, OptionRefused)],
)  # fmt: skip
def test_what_cannot_be_saved_is_refused_in_words_and_leaves_nothing(project, fields, refusal):
    with pytest.raises(refusal):
        keep(project, **fields)
    assert not Recipe.objects.exists()


def test_a_saved_version_cannot_be_changed_or_removed_by_anybody(project):
    version = keep(project)
    for attempt in (lambda: RecipeVersion.objects.update(note="other"), version.delete):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()


@pytest.mark.parametrize(
    ("row", "constraint"),
    [
        (lambda version: Recipe(project=version.recipe.project, name="Gentle DPO"), "recipe_name_is_unique_in_project"),
        (lambda version: Recipe(project=version.recipe.project, name=""), "recipe_has_a_name"),
        (lambda version: copy(version, 1), "recipe_version_number_is_unique_in_recipe"),
        (lambda version: copy(version, 0), "recipe_versions_start_at_one"),
    ],
)
def test_the_database_refuses_what_no_recipe_may_be(project, row, constraint):
    made = row(keep(project))
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        made.save()


def copy(version: RecipeVersion, number: int) -> RecipeVersion:
    return RecipeVersion(recipe=version.recipe, number=number, preset="reward", stages=[], author=version.author)


def test_a_round_runs_the_saved_stages_whatever_became_of_the_preset(given, monkeypatch):
    version = keep(given["project"])
    monkeypatch.setitem(PRESETS, "reward-dpo", PRESETS["reward"])
    round = launch_round(**given, saved=version)
    assert (round.recipe_version, round.recipe["title"]) == (version, "Gentle DPO v1")
    specs = {spec["name"]: spec for spec in round.recipe["stages"]}
    assert (specs["preference"]["config"]["beta"], specs["reward"]["config"]["lora"]) == (0.3, {"rank": 4})
    with pytest.raises(ProtectedError):
        version.recipe.delete()


def test_a_clone_begins_as_its_original_and_goes_its_own_way(project, admin):
    original = keep(project, note="mild", mitigation=True)
    made = clone_recipe(version=original, name="Harsh DPO", by=admin)
    assert (made.number, made.stages, made.mitigation) == (1, original.stages, True)
    assert made.note == "Cloned from Gentle DPO, version 1."
    assert keep(project, "Harsh DPO", changes={"preference.beta": 0.9}).number == 2
    assert original.recipe.versions.count() == 1
    with pytest.raises(RecipeRefused, match="already"):
        clone_recipe(version=original, name="Harsh DPO", by=admin)


def test_the_form_saves_and_comes_back_with_what_was_saved(client, given):
    project = given["project"]
    fields = form_of(given, do="save", save_name="Gentle DPO", save_note="mild", further="reward.lora={\"rank\": 4}")
    answer = post(client, project, **fields, **{"preference.beta": "0.3"})
    version = RecipeVersion.objects.get()
    assert (version.changes, version.note) == (CHANGES, "mild")
    assert version.author == project.memberships.get(role="admin").user
    assert answer.url.endswith(f"?saved={version.pk}#launch") and not Round.objects.exists()
    form = client.get(answer.url).context["form"]
    assert form["preference.beta"].value() == 0.3 and form["further"].value() == 'reward.lora={"rank": 4}'


def test_a_launch_names_the_recipe_unless_its_settings_were_changed(client, given):
    project, version = given["project"], keep(given["project"])
    further = 'reward.lora={"rank": 4}'
    fields = form_of(given, do="launch", saved=version.pk, further=further)
    post(client, project, **fields, **{"preference.beta": "0.3"})
    assert project.rounds.first().recipe_version == version
    request_cancel(round=project.rounds.first())
    post(client, project, **fields, **{"preference.beta": "0.4"})
    changed = project.rounds.first()
    assert (changed.number, changed.recipe_version) == (2, None)
    assert changed.recipe["stages"][1]["config"]["beta"] == 0.4


def test_a_setting_out_of_its_range_or_a_name_missing_is_said_at_its_field(client, given):
    answer = post(client, given["project"], **form_of(given, do="save", save_name=""))
    assert answer.status_code == 422 and answer.context["form"].errors["save_name"] == ["Give the recipe a name."]


def test_the_recipe_of_another_project_is_neither_shown_nor_launched(client, given):
    elsewhere = keep(make_project(admin=make_user()))
    answer = post(client, given["project"], **form_of(given, do="launch", saved=elsewhere.pk))
    assert answer.status_code == 422 and not Round.objects.exists()
    page = client.get(f"/p/{given['project'].slug}/rounds/new/?saved={elsewhere.pk}")
    assert page.context["saved"] is None and b"Gentle" not in page.content


def test_a_researcher_reads_the_recipes_and_only_an_admin_clones(client, project):
    version = keep(project, note="mild")
    address = f"/p/{project.slug}/rounds/recipes/"
    for role, read, cloned in (("labeler", 403, 403), ("researcher", 200, 403), ("admin", 200, 302)):
        client.force_login(project.memberships.get(role=role).user)
        assert client.get(address).status_code == read, role
        assert client.post(f"{address}{version.pk}/clone/", {"name": f"by {role}"}).status_code == cloned, role
    assert set(project.recipes.values_list("name", flat=True)) == {"Gentle DPO", "by admin"}
    page = client.get(address).content.decode()
    assert "preference.beta=0.3" in page and "mild" in page


def test_a_stranger_finds_no_recipe(client, project):
    version = keep(project)
    client.force_login(make_user())
    for path in ("recipes/", "compare/"):
        assert client.get(f"/p/{project.slug}/rounds/{path}").status_code == 404
    assert client.post(f"/p/{project.slug}/rounds/recipes/{version.pk}/clone/", {"name": "Mine"}).status_code == 404


def test_another_projects_admin_cannot_clone_a_version_by_its_number(client, project):
    version, other = keep(project), make_project(admin=make_user())
    client.force_login(other.memberships.get().user)
    answer = client.post(f"/p/{other.slug}/rounds/recipes/{version.pk}/clone/", {"name": "Mine"})
    assert answer.status_code == 404 and not other.recipes.exists()


def test_the_shell_launches_a_version_by_its_name_and_number(given):
    project = given["project"]
    keep(project), keep(project, changes={"preference.beta": 0.9})
    for asked, beta in (("Gentle DPO@1", 0.3), ("Gentle DPO", 0.9)):
        out = StringIO()
        call_command("launch", project.slug, saved=asked, json=True, stdout=out)
        round = project.rounds.get(number=json.loads(out.getvalue())["number"])
        assert round.recipe["stages"][1]["config"]["beta"] == beta
        request_cancel(round=round)
    with pytest.raises(CommandError, match="there is Gentle DPO"):
        call_command("launch", project.slug, saved="Harsh DPO")
    with pytest.raises(CommandError, match="leave out --set"):
        call_command("launch", project.slug, saved="Gentle DPO", set=["preference.beta=0.1"])


def test_a_schedule_runs_the_saved_version_that_it_names(project):
    make_parent(project)
    version = keep(project, preset="reward", changes={"reward.optimization.epochs": 2})
    arrange(project, every_judgments=2, recipe_version=version)
    judge(project, 2)
    schedule.tick()
    round = Round.objects.get()
    assert round.recipe_version == version and Schedule.objects.get().last_round == round
    assert round.recipe["stages"][0]["config"]["optimization"]["epochs"] == 2


def test_the_page_of_the_schedule_offers_only_the_projects_own_recipes(client, project, admin):
    mine, other = keep(project), keep(make_project(admin=make_user()), "Elsewhere")
    client.force_login(admin)
    address = f"/p/{project.slug}/rounds/schedule/"
    assert b"Elsewhere" not in client.get(address).content
    fields = {"enabled": "on", "every_judgments": 5, "recipe": "reward"}
    assert client.post(address, fields | {"recipe_version": other.pk}).status_code == 422
    assert client.post(address, fields | {"recipe_version": mine.pk}).status_code == 302
    assert Schedule.objects.get().recipe_version == mine
