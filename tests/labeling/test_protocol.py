import pytest

from labelapp.labeling.answers import Answer, as_shown, as_stored, check_answer, located
from labelapp.labeling.desk import steps
from labelapp.labeling.protocol import Criterion, Protocol, parse
from labelapp.labeling.refusals import BadProtocol, NotAnAnswer

HELPFUL = {"key": "helpfulness", "label": "Helpfulness", "low": 0, "high": 4}


def test_what_is_stored_is_what_was_read():
    definition = {"form": "rating", "criteria": [HELPFUL, {"key": "toxic", "label": "Toxic", "kind": "flag"}]}
    protocol = parse(definition)
    assert parse(protocol.as_json()) == protocol
    assert protocol.criteria[0].values == range(5)


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        ({"qestion": "?"}, "'qestion' is not a part of a protocol"),
        ({"question": " "}, "question: ' ' must be a text"),
        ({"form": "triple"}, "form: 'triple' must be one of pair, ranking"),
        ({"max_strength": 5}, "max_strength: 5 must be a whole number from 1 to 4"),
        ({"max_strength": True}, "max_strength: True must be"),
        ({"tie": "yes"}, "tie: 'yes' must be true or false"),
        ({"grades": ["better"]}, "grades: give 3 words, not 1"),
        ({"criteria": [HELPFUL, HELPFUL]}, "criteria: the keys helpfulness, helpfulness must differ"),
        ({"criteria": [HELPFUL | {"high": 0}]}, "high: 0 must be a whole number from 1"),
        ({"criteria": [{"key": "a b", "label": "x"}]}, "must be one word"),
        ({"criteria": [HELPFUL | {"low_word": None}]}, "low_word: None must be a text"),
        ({"criteria": [HELPFUL | {"required": 1}]}, "required: 1 must be true or false"),
        ({"form": "rating"}, "needs at least one criterion"),
        ({"form": "ranking", "chat": True}, "live chat compares pairs"),
        ([], "A protocol is an object"),
    ],
)
def test_a_bad_definition_is_refused_with_the_part_the_value_and_the_remedy(definition, says):
    with pytest.raises(BadProtocol, match=says):
        parse(definition)


@pytest.mark.parametrize(
    ("most", "tie", "count"),
    [(most, tie, 2 * most + tie) for most in (1, 2, 3, 4) for tie in (False, True)],
)
def test_there_are_two_to_nine_steps(most, tie, count):
    made = steps(Protocol(max_strength=most, tie=tie))
    assert [step.key for step in made] == list(range(1, count + 1))
    assert made[0].value == -made[-1].value == -most


RATED = Protocol(criteria=(Criterion("helpfulness", "Helpfulness", low=0, high=4),), safety=True)


@pytest.mark.parametrize(
    ("answer", "protocol", "says"),
    [
        (Answer(strength=1), RATED, "Give every response a value for “Helpfulness”."),
        (Answer(strength=1, ratings={"helpfulness": (3,)}), RATED, "1 values for 2 responses"),
        (Answer(strength=1, ratings={"helpfulness": (3, 5)}), RATED, "5 is out of range; choose from 0 to 4"),
        (Answer(strength=1, ratings={"helpfulness": (3, 4)}), RATED, "safe or unsafe"),
        (Answer(strength=1, ratings={"other": (1, 1)}), RATED, "'other' is not a criterion"),
        (Answer(strength=1, safety=("safe", "safe")), Protocol(), "Safety is not asked"),
        (Answer(strength=1), Protocol(rationale="required"), "Say why"),
        (Answer(strength=3, rationale="no"), Protocol(rationale="required", rationale_words=2), "1 of at least 2"),
        (Answer(strength=3, rationale="no"), Protocol(rationale="optional", rationale_words=2), "1 of at least 2"),
        (Answer(strength=1, rationale="x"), Protocol(rationale="off"), "No reasons are asked"),
        (Answer(strength=1, reasons=("taller",)), Protocol(chips=("clearer",)), "'taller' is not one of"),
        (Answer(strength=1, rewrite="x"), Protocol(rewrite="both_bad"), "may not be written here"),
        (Answer(), Protocol(form="demonstration"), "Write the answer"),
        (Answer(strength=1), Protocol(form="ranking"), "give each one a rank"),
        (Answer(ranking=((0,),), unrankable=(1,)), Protocol(form="ranking"), "Leaving a response out"),
        (Answer(ranking=(), unrankable=(0, 1)), Protocol(form="ranking", unrankable=True), "must name each"),
        (
            Answer(strength=1, spans=({"place": 0, "start": 0, "end": 1, "quote": "x", "reason": "dull"},)),
            Protocol(span_reasons=("false",)),
            "'dull' is not a reason",
        ),
    ],
)
def test_an_answer_that_the_protocol_does_not_know_is_refused(answer, protocol, says):
    with pytest.raises(NotAnAnswer, match=says):
        check_answer(answer, size=0 if protocol.form == "demonstration" else 2, protocol=protocol)


def test_a_reason_is_required_only_of_strong_grades_and_a_chip_is_one():
    protocol = Protocol(rationale="required", rationale_from=3, chips=("clearer",))
    check_answer(Answer(strength=2), size=2, protocol=protocol)
    check_answer(Answer(strength=3, reasons=("clearer",)), size=2, protocol=protocol)
    with pytest.raises(NotAnAnswer):
        check_answer(Answer(strength=3), size=2, protocol=protocol)


def test_ticked_reasons_need_no_words_where_words_are_optional():
    protocol = Protocol(chips=("clearer",), rationale_words=10)
    check_answer(Answer(strength=3, reasons=("clearer",)), size=2, protocol=protocol)


def test_words_are_counted_in_scripts_without_spaces_too():
    protocol = Protocol(rationale="required", rationale_words=4)
    check_answer(Answer(strength=1, rationale="回答更好"), size=2, protocol=protocol)


def test_everything_that_is_said_of_a_place_moves_to_its_position_and_back():
    answer = Answer(
        ranking=((2,), (0,)), unrankable=(1,), ratings={"helpfulness": (4, None, 0)}, safety=("safe", "unsafe", "safe"),
        spans=({"place": 0, "start": 0, "end": 2, "quote": "ab", "reason": "false"},), rewrite="x", rewrite_of=1,
    )  # fmt: skip
    stored = as_stored(answer, [2, 0, 1])
    assert (stored.ranking, stored.unrankable) == (((1,), (2,)), (0,))
    assert stored.ratings == {"helpfulness": (None, 0, 4)}
    assert (stored.safety, stored.spans[0]["place"], stored.rewrite_of) == (("unsafe", "safe", "safe"), 2, 0)
    assert as_shown(stored, [2, 0, 1]) == answer


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_strength_is_shown_again_as_it_was_given(order):
    answer = Answer(strength=-2)
    assert as_shown(as_stored(answer, order), order) == answer


def test_a_quote_is_found_again_in_the_text_or_keeps_no_offsets():
    def span(quote, start=None, end=None):
        return {"place": 0, "start": start, "end": end, "quote": quote, "reason": "false"}

    def found(span):
        kept = located((span,), ["the cat and the dog"])[0]
        return kept["start"], kept["end"]

    assert found(span("cat", 4, 7)) == (4, 7)
    assert found(span("cat", 0, 3)) == (4, 7)
    assert found(span("the")) == (None, None)
    assert found(span("bird")) == (None, None)
