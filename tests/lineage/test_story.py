"""From anything to everything it came from and everything made from it; by whom; and what a retraction affects."""

from itertools import pairwise

import pytest
from django.test import Client
from django.urls import reverse

from labelapp.labeling.actions import undo_last
from labelapp.lineage.anchors import anchor_of
from labelapp.lineage.drawing import BOX, draw, folded, items_of, layers_of
from labelapp.lineage.fed import affected_by, fed_by, judged_by
from labelapp.lineage.graph import DOWN, UP, Edge, Story, distances, story_of
from labelapp.lineage.nodes import Node, nodes_of
from labelapp.models import Comparison, Judgment, User
from tests.factories import make_completion, make_project, make_user, make_version
from tests.gate.rounds import audit
from tests.labeling.conftest import claim_and_answer
from tests.lineage.conftest import sampled


def story(loop, kind, key):
    return story_of(loop.project.pk, *anchor_of(loop.project, kind, str(key)))


def kinds(side) -> set[str]:
    return {node.partition(":")[0] for node in side}


def test_a_version_came_from_its_round_snapshot_judgments_sampling_and_parent(loop):
    before = story(loop, "version", "trained").before
    assert before.keys() >= {
        f"round:{loop.training.pk}", f"snapshot:{loop.snapshot.pk}", f"version:{loop.base.pk}",
        f"round:{loop.sampling.pk}", f"source:random:{loop.sampling.pk}:{loop.base.pk}", "source:import::",
    }  # fmt: skip
    assert before[f"source:random:{loop.sampling.pk}:{loop.base.pk}"] == 3


def test_a_version_made_everything_that_came_after_it(loop):
    after = story(loop, "version", "base").after
    assert after.keys() >= {f"version:{loop.trained.pk}", f"snapshot:{loop.snapshot.pk}", f"answers:{loop.base.pk}"}
    assert f"version:{loop.base.pk}" in after and after[f"version:{loop.base.pk}"] == 0
    assert "source:import::" not in after  # that came from elsewhere


def test_an_answer_knows_the_policy_behind_it_and_what_learnt_from_it(loop):
    answer = loop.comparisons[0].completions.first()
    found = story(loop, "completion", answer.pk)
    assert f"version:{loop.base.pk}" in found.before
    assert found.after.keys() >= {
        f"comparison:{loop.comparisons[0].pk}", f"judgments:{loop.comparisons[0].pk}", f"snapshot:{loop.snapshot.pk}",
        f"version:{loop.trained.pk}",
    }  # fmt: skip


def test_a_judgment_that_is_not_frozen_has_made_nothing(loop):
    comparison = sampled(loop.project, loop.base, loop.sampling, "Argue for something new.")
    claim_and_answer(loop.project, loop.ann, strength=1)
    row = Judgment.objects.get(comparison=comparison)
    assert kinds(story(loop, "judgment", row.pk).after) == {"judgment"}


def test_a_judgment_leads_to_the_answers_it_compared_and_to_the_versions_it_taught(loop):
    found = story(loop, "judgment", Judgment.objects.filter(labeler=loop.ann).first().pk)
    assert kinds(found.before) == {"judgment", "comparison", "completion", "round", "version"}
    assert kinds(found.after) == {"judgment", "snapshot", "round", "version"}


def test_a_figure_of_an_audit_leads_back_to_the_judgments(loop, tmp_path):
    metric = audit(loop.trained, tmp_path).metrics.first()
    found = story(loop, "figure", metric.pk)
    assert {"audit", "version", "round", "snapshot", "source"} <= kinds(found.before)


def test_many_comparisons_of_an_answer_fold_into_one_node(loop):
    answer = loop.comparisons[0].completions.first()
    for number in range(7):
        other = make_completion(answer.prompt, f"Another {number}.")
        comparison = Comparison.objects.create(
            project=loop.project, prompt=answer.prompt, protocol=loop.project.protocol_versions.last(),
            content_hash=f"{number:064}",
        )  # fmt: skip
        for position, each in enumerate([answer, other]):
            comparison.comparisoncompletion_set.create(completion=each, position=position)
    found = story(loop, "completion", answer.pk)
    assert f"comparisons:{answer.pk}" in found.after and "comparison" not in kinds(found.after)
    assert nodes_of(loop.project, [f"comparisons:{answer.pk}"])[f"comparisons:{answer.pk}"].name == "8"
    assert f"version:{loop.trained.pk}" in found.after


def test_another_projects_rows_are_in_nobodys_story(loop):
    other = make_project("other")
    parent = make_version(other, name="base")
    make_version(other, name="trained", parent=parent)
    assert f"version:{parent.pk}" not in story(loop, "version", "trained").before


# Who fed it


def test_labelers_and_guideline_versions_that_fed_a_policy_are_counted(loop):
    found = fed_by([loop.snapshot.pk], names=False)
    ours = {share.annotator: share for share in found.shares}
    assert ours[f"labeler-{loop.ann.pk}"].judgments == 3 and ours[f"labeler-{loop.ann.pk}"].guideline == 1
    assert ours["p0"].guideline is None and ours["p0"].judgments == 2
    assert (found.judgments, found.annotators, found.more) == (10, 5, 0)
    assert {share.name for share in found.shares} == {""}


def test_only_admins_read_logins(loop):
    address = reverse("lineage_of", args=["loop", "version", "trained"])
    assert "labeler-" in opened("res", address) and ">ann<" not in opened("res", address)
    assert ">ann<" in opened("adm", address)
    person = reverse("lineage_annotator", args=["loop", f"labeler-{loop.ann.pk}"])
    assert "ann ·" in opened("adm", person) and "ann ·" not in opened("res", person)


# What a retraction affects


def test_a_withdrawn_judgment_lists_the_snapshots_and_versions_that_learnt_from_it(loop):
    assert undo_last(project=loop.project, labeler=loop.bob)
    [gone] = Judgment.objects.filter(labeler=loop.bob, replaced_by__withdrawn=True)
    page = opened("res", reverse("lineage_of", args=["loop", "judgment", gone.pk]))
    assert "withdrew this judgment" in page and "trained" in page
    index = opened("res", reverse("lineage", args=["loop"]))
    assert f"Judgment {gone.pk}" in index and "Nothing: what was frozen still stands" not in index


def test_what_one_person_taught_reaches_as_far_as_the_grandchildren(loop):
    grandchild = make_version(loop.project, name="grandchild", parent=loop.trained)
    [found] = affected_by(loop.project, judged_by(loop.project, f"labeler-{loop.bob.pk}"))
    assert (found.snapshot, found.judgments) == (loop.snapshot, 3)
    assert set(found.versions) == {loop.trained, grandchild}


def test_somebody_who_left_is_listed(loop):
    loop.project.memberships.filter(user=loop.bob).delete()
    index = opened("res", reverse("lineage", args=["loop"]))
    assert reverse("lineage_annotator", args=["loop", f"labeler-{loop.bob.pk}"]) in index


def test_an_annotator_whose_name_has_a_slash_has_a_page(loop):
    assert opened("res", reverse("lineage_annotator", args=["loop", "p0"]))
    assert reverse("lineage_annotator", args=["loop", "a/b"]).endswith("/annotators/a/b/")


# The drawing


def chain(length: int) -> tuple[set[Edge], list[str]]:
    names = [f"version:{number}" for number in range(length)]
    return {Edge(*pair) for pair in pairwise(names)}, names


def test_what_is_far_folds_and_opens_on_demand():
    edges, names = chain(40)
    middle = names[20]
    told = story_like(middle, edges)
    shown = folded(told)
    assert len(shown.folds["fold:before"]) == 20 - 7 and len(shown.folds["fold:after"]) == 19 - 7
    assert Edge("fold:before", names[13]) in shown.edges
    assert not folded(told, whole=True).folds


def test_many_of_a_kind_beside_each_other_fold():
    edges = {Edge("snapshot:1", f"round:{number}") for number in range(1, 31)}
    shown = folded(story_like("snapshot:1", edges))
    [fold] = shown.folds.values()
    assert len(fold) == 25 and "round:30" not in fold  # the newest stay


def story_like(anchor, edges):
    return Story(anchor, edges, distances(edges, anchor, UP), distances(edges, anchor, DOWN))


def test_every_edge_leads_downwards_and_no_boxes_overlap(loop):
    found = story(loop, "version", "trained")
    shown = folded(found, whole=True)
    nodes = nodes_of(loop.project, shown.stands_for)
    drawing = draw(shown, nodes, found.anchor)
    layers = layers_of(set(nodes), shown.edges)
    assert all(layers[edge.tail] < layers[edge.head] for edge in shown.edges)
    places = sorted((box.y, box.x) for box in drawing.boxes)
    assert all(a[0] < b[0] or a[1] + BOX <= b[1] for a, b in pairwise(places))
    assert len(drawing.curves) == len(shown.edges)


def test_the_list_names_every_node_of_its_side_and_opens_each_once(loop):
    found = story(loop, "version", "trained")
    shown = folded(found, whole=True)
    nodes = nodes_of(loop.project, shown.stands_for)
    items = items_of(found.anchor, shown.edges, nodes, UP)
    assert {item.node.key for item in items} == set(found.before) - {found.anchor}
    opened_once = [item.node.key for item in items if not item.told]
    assert len(opened_once) == len(set(opened_once))
    assert sum(item.opens for item in items) == sum(len(item.closes) for item in items)


def test_a_loop_between_folds_is_laid_out_all_the_same():
    edges = {Edge("a:1", "b:1"), Edge("b:1", "a:1"), Edge("b:1", "c:1")}
    layers = layers_of({"a:1", "b:1", "c:1"}, edges)
    assert layers.keys() == {"a:1", "b:1", "c:1"} and layers["c:1"] > layers["b:1"]
    assert Node("fold:before", "Folded", "3 more").folded


# Pages


def client(username: str) -> Client:
    found = Client()
    found.force_login(User.objects.get(username=username))
    return found


def opened(username: str, address: str) -> str:
    response = client(username).get(address)
    assert response.status_code == 200, address
    return response.content.decode()


def pages(loop) -> list[str]:
    source = loop.snapshot.sources.get(origin="random")
    answer = loop.comparisons[0].completions.first()
    judgment = Judgment.objects.filter(labeler=loop.ann).first()
    each = [
        ("version", "base"), ("snapshot", loop.snapshot.digest), ("round", 501), ("round", 502),
        ("completion", answer.pk), ("comparison", loop.comparisons[0].pk), ("judgment", judgment.pk),
    ]  # fmt: skip
    return [
        reverse("lineage", args=["loop"]),
        reverse("lineage_source", args=["loop", source.pk]),
        reverse("lineage_answers", args=["loop", "base"]),
        reverse("lineage_compared", args=["loop", answer.pk]),
        reverse("lineage_annotator", args=["loop", f"labeler-{loop.ann.pk}"]),
        *(reverse("lineage_of", args=["loop", *pair]) for pair in each),
        reverse("lineage_of", args=["loop", "version", "trained"]) + "?all=1",
    ]


def test_researchers_open_every_page_and_strangers_and_labelers_none(loop):
    make_user("stranger")
    for address in pages(loop):
        assert opened("res", address)
        assert client("stranger").get(address).status_code == 404, address
        assert client("ann").get(address).status_code == 403, address
        assert client("rev").get(address).status_code == 403, address


def test_a_source_lists_its_own_judgments_and_no_others(loop):
    source = loop.snapshot.sources.get(origin="random")
    page = opened("res", reverse("lineage_source", args=["loop", source.pk]))
    assert page.count("<tr>") == 1 + 6
    imported = loop.snapshot.sources.get(origin="import")
    assert opened("res", reverse("lineage_source", args=["loop", imported.pk])).count("<tr>") == 1 + 4


@pytest.mark.parametrize(
    "kind, key",
    [("version", "nobody"), ("judgment", "999999"), ("judgment", "x"), ("nothing", "1"), ("figure", "9" * 30)],
)
def test_what_is_not_there_is_not_found(loop, kind, key):
    assert client("res").get(reverse("lineage_of", args=["loop", kind, key])).status_code == 404
