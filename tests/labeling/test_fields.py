"""The form's fields: what was said before stands in them again, whatever the form."""

from html.parser import HTMLParser

import pytest

from labelapp.labeling.desk import make_item
from labelapp.labeling.fields import answer_fields, raw_text
from labelapp.labeling.protocol import parse
from labelapp.models import Comparison, Draft, ProtocolVersion, Slot
from tests.factories import make_comparison, make_prompt
from tests.labeling.forms import DEMONSTRATION, PAIR, PAIR_FULL, RANKING, RATING

PAGE = "/p/convincing/label/"
RATED = {
    "rating_helpful_0": "4", "rating_helpful_1": "0", "rating_made_up_1": "1", "safety_0": "safe", "safety_1": "unsafe",
}  # fmt: skip
SPANS = '[{"place": 1, "start": 0, "end": 2, "quote": "tw", "reason": "wrong"}]'
SAID = {
    "pair": (PAIR, 2, {"answer": "-2", "rationale": "It <b>says</b> why & how"}),
    "both bad": (PAIR_FULL, 2, RATED | {"answer": "both_bad", "rewrite": "\nBetter.", "rewrite_of": "1"}),
    "marked": (PAIR_FULL, 2, RATED | {"answer": "1", "spans": SPANS}),
    "full": (PAIR_FULL, 2, RATED | {"answer": "4", "reasons": ["clearer", "shorter"], "rationale": "four words it is"}),
    "ranking": (RANKING, 4, {"rank_0": "2", "rank_1": "1", "rank_2": "2", "rank_3": "x"}),
    "all bad": (RANKING, 3, {"answer": "both_bad"}),
    "rating": (RATING, 2, RATED | {"rating_wordy_0": "-1", "rating_fluent_0": "0", "rating_fluent_1": "73"}),
    "demonstration": (DEMONSTRATION, 0, {"rewrite": "  My answer,\n\nin two parts."}),
}


def submitted(page: str) -> dict[str, list[str]]:
    """What a browser would send of the form `answer`, without the hidden fields that the server makes."""
    sent, area = {}, []
    parser = HTMLParser()

    def start(tag, attributes):
        given = dict(attributes)
        if tag == "textarea":
            area[:] = [given["name"], ""]
        if tag != "input" or "name" not in given:
            return
        chosen = given.get("type") not in ("radio", "checkbox") or "checked" in given
        if chosen and given.get("value"):
            sent.setdefault(given["name"], []).append(given["value"])

    def data(text):
        if area:
            area[1] += text

    def end(tag):
        if tag == "textarea" and area:
            text = area[1].removeprefix("\n")
            if text:
                sent[area[0]] = [text]
            area.clear()

    parser.handle_starttag, parser.handle_data, parser.handle_endtag = start, data, end
    parser.feed(page)
    made = ("claim", "slot", "submission_id", "active_seconds", "csrfmiddlewaretoken")
    return {name: values for name, values in sent.items() if name not in made}


def comparison_under(project, definition, size) -> Comparison:
    ProtocolVersion.objects.create(project=project, number=2, definition=definition)
    if size:
        return make_comparison(project, *["one", "two", "three", "four"][:size])
    made = Comparison.objects.create(
        project=project, prompt=make_prompt(project), protocol=project.protocol_versions.last(), content_hash="0" * 64
    )
    Slot.objects.create(comparison=made, project=project, number=0, shuffle_key=1, display_order=[])
    return made


def as_lists(said):
    return {name: value if isinstance(value, list) else [value] for name, value in said.items()}


@pytest.fixture
def web(client, labeler, project):
    client.force_login(labeler)
    return client


@pytest.mark.parametrize("form", SAID)
def test_after_a_refusal_every_field_says_what_it_said(web, project, form):
    definition, size, said = SAID[form]
    comparison_under(project, definition, size)
    first = web.get(PAGE)
    assert submitted(first.content.decode()) == {}
    hidden = {name: str(value) for name, value in first.context["hidden"].items()}
    refused = web.post(PAGE, hidden | said | {"active_seconds": "-1"})
    assert refused.status_code == 422
    assert submitted(refused.content.decode()) == as_lists(said)


@pytest.mark.parametrize("form", SAID)
def test_a_draft_comes_back_into_every_field(web, project, labeler, form):
    definition, size, said = SAID[form]
    comparison = comparison_under(project, definition, size)
    Draft.objects.create(comparison=comparison, labeler=labeler, revision=1, body=said)
    assert submitted(web.get(PAGE).content.decode()) == as_lists(said)


@pytest.mark.parametrize(
    "body",
    [
        {"answer": ["1"], "rank_0": {"a": 1}, "reasons": "clearer", "spans": "{", "rewrite": None, "rationale": 7},
        {"spans": {"place": 1}, "reasons": {"a": 1}, "safety_0": True, "rating_helpful_0": 2.5},
    ],
)
def test_a_draft_that_makes_no_sense_breaks_nothing(web, project, labeler, body):
    comparison = comparison_under(project, PAIR_FULL, 2)
    Draft.objects.create(comparison=comparison, labeler=labeler, revision=1, body=body)
    assert web.get(PAGE).status_code == 200


def fields(definition, size, said=None):
    texts = ["a text"] * size
    messages = [{"role": "user", "content": "?"}]
    item = make_item(
        slot=Slot(), protocol=parse(definition), protocol_id=1, messages=messages, texts=texts, draft=None
    )
    return answer_fields(item, said)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.parametrize("tie", [True, False])
def test_the_steps_have_the_keys_from_one_up(most, tie):
    steps = fields(PAIR | {"max_strength": most, "tie": tie}, 2).steps
    assert [step.key for step in steps] == [str(key) for key in range(1, 2 * most + tie + 1)]


def test_the_words_of_the_protocol_stand_on_the_steps():
    grades = ["a bit better", "better by far"]
    labels = [step.label for step in fields(PAIR | {"max_strength": 2, "grades": grades}, 2).steps]
    assert labels == ["A better by far", "A a bit better", "equal", "B a bit better", "B better by far"]


def test_a_pair_has_no_ranks_and_more_than_two_have_no_steps():
    pair, three, rated = fields(PAIR, 2), fields(PAIR, 3), fields(RATING, 3)
    assert (len(pair.steps), pair.ranks, pair.both_bad.label) == (7, (), "Both bad")
    assert (three.steps, three.ranks, three.both_bad.label) == ((), ("1", "2", "3"), "All bad")
    assert (rated.steps, rated.ranks, rated.both_bad) == ((), (), None)


def test_the_digits_of_a_scale_are_its_values_where_they_can_be():
    def keys(low, high):
        criterion = {"key": "c", "label": "C", "low": low, "high": high}
        (group,) = fields({"form": "rating", "criteria": [criterion]}, 1).cards[0].groups
        return [(choice.value, choice.key) for choice in group.choices]

    assert keys(0, 2) == [("0", "0"), ("1", "1"), ("2", "2")]
    assert keys(-1, 1) == [("-1", "1"), ("0", "2"), ("1", "3")]
    assert keys(0, 10)[-2:] == [("9", ""), ("10", "")]


def test_a_slider_has_no_value_until_somebody_sets_one():
    slider = next(group for group in fields(RATING, 1).cards[0].groups if group.kind == "slider")
    assert (slider.value, slider.choices) == ("", ())


def test_criteria_stand_after_the_rank_unless_the_protocol_puts_them_first():
    ranked = RANKING | {"criteria": RATING["criteria"][:1]}
    assert [group.kind for group in fields(ranked, 3).cards[0].groups] == ["rank", "likert"]
    assert [group.kind for group in fields(ranked | {"criteria_first": True}, 3).cards[0].groups] == ["likert", "rank"]


def test_the_raw_text_keeps_every_code_point():
    shown = raw_text("\n a\r\nb <i>&amp;\u202e")
    assert shown.startswith("\n\n a&#13;\nb &lt;i&gt;&amp;amp;")
    assert 'data-name="U+202E">\u202e</span>' in shown
