"""The presets ask what their sources say."""

import pytest

from labelapp.labeling.desk import steps
from labelapp.labeling.protocol import parse
from labelapp.labeling.setup.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_a_preset_is_a_protocol_with_a_title_and_a_sentence(preset):
    assert parse(preset.protocol.as_json()) == preset.protocol
    assert preset.title and preset.about.endswith(".")
    assert preset.address.startswith("https://arxiv.org/abs/") or preset.key in ("default", "demonstration")


def of(key):
    return PRESETS[key].protocol


# What the sources say: steps of a pair, tie, both bad, live chat.
@pytest.mark.parametrize(
    ("key", "count", "tie", "both_bad", "chat"),
    [
        ("default", 7, True, True, False),
        ("anthropic-hh", 8, False, False, False),
        ("webgpt", 5, True, False, False),
        ("llama-2", 8, False, False, False),  # four grades to each side
        ("helpsteer3", 7, True, False, False),
        ("chatbot-arena", 3, True, True, True),
    ],
)
def test_a_pair_has_the_steps_of_its_source(key, count, tie, both_bad, chat):
    protocol = of(key)
    assert protocol.form == "pair"
    assert len(steps(protocol)) == count
    assert (protocol.tie, protocol.both_bad, protocol.chat) == (tie, both_bad, chat)


def test_instructgpt_rates_one_to_seven_flags_eleven_things_and_ranks_with_ties():
    protocol = of("instructgpt")
    quality, *flags = protocol.criteria
    assert (protocol.form, protocol.tie, protocol.criteria_first) == ("ranking", True, True)
    assert list(quality.values) == [1, 2, 3, 4, 5, 6, 7]
    assert len(flags) == 11 and {criterion.kind for criterion in flags} == {"flag"}
    assert set(range(4, 10)) <= set(protocol.sizes)


def test_webgpt_asks_its_criteria_first():
    assert of("webgpt").criteria_first
    assert of("webgpt").words == ("better", "much better")


def test_llama_2_has_four_grades_no_tie_and_safety_of_each_response():
    protocol = of("llama-2")
    assert protocol.words == ("negligibly better, or unsure", "slightly better", "better", "significantly better")
    assert protocol.safety


def test_helpsteer2_rates_five_attributes_from_0_to_4_and_compares_nothing():
    protocol = of("helpsteer2")
    assert protocol.form == "rating"
    assert [c.key for c in protocol.criteria] == [
        "helpfulness", "correctness", "coherence", "complexity", "verbosity",
    ]  # fmt: skip
    assert {tuple(c.values) for c in protocol.criteria} == {(0, 1, 2, 3, 4)}


def test_helpsteer3_asks_for_reasoning_with_every_answer():
    protocol = of("helpsteer3")
    assert protocol.words == ("slightly better", "better", "much better")
    assert (protocol.rationale, protocol.rationale_from) == ("required", 0)


def test_prism_rates_each_response_on_a_slider_in_live_chat():
    protocol = of("prism")
    assert (protocol.form, protocol.chat) == ("rating", True)
    assert [(c.kind, c.values[0], c.values[-1]) for c in protocol.criteria] == [("slider", 0, 100)]


def test_a_demonstration_has_no_responses_to_compare():
    assert list(of("demonstration").sizes) == [0]
