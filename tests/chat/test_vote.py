"""From a prompt to a judgment: the rows are exactly those that a comparison from the queue would have."""

import asyncio
import json
from uuid import uuid4

import pytest

from labelapp.chat.actions import MOST_TURNS, end, go_on, start_turn, try_again
from labelapp.chat.refusals import BadPrompt, NothingToAsk, NotNow, NotShown, OutOfStep
from labelapp.chat.run import claim, flush, in_thread, read, run_to_end
from labelapp.chat.vote import continuation, vote
from labelapp.datasets.freeze import write_files
from labelapp.labeling.answers import Answer
from labelapp.labeling.refusals import AlreadyJudged, ChangedBody, NotAnAnswer
from labelapp.models import (
    ChatTurn,
    Comparison,
    Completion,
    ConsentVersion,
    Judgment,
    Prompt,
    Slot,
    WorkDay,
    message_hash,
    text_hash,
)
from tests.chat.conftest import PAIR, SLIDERS, add_model, ask_under, begin, chat
from tests.factories import PROTOCOL, add_member, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def judge(turn, **said):
    seen = said.pop("seen", None) or [len(side.text) for side in turn.sides.all()]
    said = said or {"strength": -2}
    submission = said.pop("submission_id", None) or uuid4()
    answer = Answer(**said)
    membership = turn.conversation.project.memberships.get(user=turn.labeler)
    return vote(turn_id=turn.pk, membership=membership, submission_id=submission, answer=answer, seen=seen)


def test_a_vote_becomes_the_rows_of_every_judgment(project, labeler, upstream):
    upstream.chunks["lion"] = ("I am Li", "on, said ", "ChatGPT.")
    turn = judge(chat(project, labeler), strength=-2)

    left, right = turn.sides.all()
    prompt = Prompt.objects.get()
    assert prompt.messages == [{"role": "user", "content": "Argue for tea."}]
    assert prompt.content_hash == message_hash(prompt.messages) and prompt.source == "chat"
    comparison = Comparison.objects.get()
    assert (comparison.origin, comparison.propensity, comparison.overlap) == ("chat", 1.0, 1)
    assert comparison.protocol == turn.protocol == project.protocol_versions.last()
    assert comparison.content_hash == Comparison.hash_of(prompt, comparison.ordered_completions())

    authors = {side.upstream.name: side.completion for side in (left, right)}
    assert authors["lion"].text == "I am [model], said [model]."
    assert authors["lion"].sampling["masked"] is True and "masked" not in authors["raven"].sampling
    for side in (left, right):
        completion = side.completion
        assert (completion.author, completion.version) == (side.upstream.name, None)
        assert completion.text == side.text and completion.content_hash == text_hash(side.text)
        assert completion.sampling["complete"] and completion.sampling["finish"] == "stop"
        assert completion.sampling["seen"] == side.seen == len(side.text)
        assert {"temperature", "max_tokens", "seed"} <= set(completion.sampling)
    original = {side.upstream.name: side.original for side in (left, right)}
    assert original["lion"] == "I am Lion, said ChatGPT."

    slot = Slot.objects.get()
    assert (slot.state, slot.labeler, slot.number, slot.comparison) == ("done", labeler, 0, comparison)
    positions = comparison.ordered_completions()
    assert [positions[position] for position in slot.display_order] == [left.completion, right.completion]
    judgment = Judgment.objects.get()
    assert judgment == turn.judgment and judgment.slot == slot
    assert judgment.display_order == slot.display_order
    winner = positions.index(left.completion)
    assert judgment.ranking == [[winner], [1 - winner]] and judgment.strength == (-2 if winner == 0 else 2)
    assert (judgment.guideline, judgment.protocol) == (project.guideline_versions.last(), turn.protocol)
    assert WorkDay.objects.get().judged == 1
    assert turn.continued == 0


def test_both_models_are_asked_the_same_and_drawn_with_a_known_probability(project, labeler, upstream):
    add_model(project, upstream, "wolf")
    turn = chat(project, labeler)
    assert turn.propensity == pytest.approx(1 / 3)
    asked = [body for _, body, _ in upstream.asked]
    assert len(asked) == 2 and asked[0]["messages"] == asked[1]["messages"]
    assert len({side.upstream_id for side in turn.sides.all()}) == 2
    assert {side.sampling["seed"] for side in turn.sides.all()} == {body["seed"] for body in asked}


def test_left_and_right_are_random(project, labeler):
    lefts = set()
    while len(lefts) < 2:  # one draw in two: 40 equal ones in a row would be a wonder
        turn = begin(project, labeler)
        lefts.add(turn.sides.first().upstream.name)
        end(conversation_id=turn.conversation_id, labeler=labeler)
    assert lefts == {"lion", "raven"}


def test_one_model_alone_answers_twice(project, labeler):
    project.upstream_models.get(name="raven").delete()
    turn = judge(chat(project, labeler))
    assert {side.upstream.name for side in turn.sides.all()} == {"lion"} and turn.propensity == 1


def test_an_early_vote_stores_what_was_seen_and_ends_the_run(project, labeler, upstream):
    for name in ("lion", "raven"):
        upstream.chunks[name] = (f"{name[0]}irst words of it. ", "And all the rest. ")
        upstream.gate(name)
    turn = begin(project, labeler)

    def judge_early(turn):
        return judge(turn, strength=1, seen=[9, 12])

    def shown():
        return min(map(len, turn.sides.values_list("text", flat=True)))

    async def scene():
        running = asyncio.create_task(run_to_end(turn.pk))
        while await in_thread(shown)() < 12:  # a query awaited here would leave its connection to nobody
            await asyncio.sleep(0.05)
        judged = await in_thread(judge_early)(turn)
        await asyncio.wait_for(running, 20)
        return judged

    judged = asyncio.run(scene())
    left, right = judged.sides.all()
    assert (left.text, right.text) == (left.original[:9], right.original[:12])
    assert (left.seen, right.seen) == (9, 12) and judged.continued == 1
    assert [side.completion.sampling["complete"] for side in (left, right)] == [False, False]
    assert [side.completion.sampling["finish"] for side in (left, right)] == ["vote", "vote"]
    assert set(Completion.objects.values_list("text", flat=True)) == {left.text, right.text}


def test_a_run_whose_turn_was_judged_meanwhile_writes_nothing_more(project, labeler):
    turn = chat(project, labeler)
    ChatTurn.objects.filter(pk=turn.pk).update(state="waiting")
    token = claim(turn.pk)
    _, voices = read(turn.pk)
    judged = judge(turn)
    for voice in voices:
        voice.hear("Something late.")
    assert flush(turn.pk, token, voices, False) is False
    assert [side.text for side in judged.sides.all()] == [side.completion.text for side in judged.sides.all()]
    assert claim(turn.pk) is None


def test_what_is_heard_while_a_text_is_stored_is_not_lost(project, labeler):
    turn = begin(project, labeler)
    token = claim(turn.pk)
    _, (first, second) = read(turn.pk)
    for voice, text in ((first, "I am Clau"), (second, "Done.")):
        voice.hear(text)
        voice.take()
    first.hear("de.")  # as if it came, with the end, while a thread writes
    first.finish = second.finish = "stop"
    assert flush(turn.pk, token, [first, second], False)
    assert [side.text for side in turn.sides.all()] == ["I am", "Done"]
    for voice in (first, second):
        voice.take()
    assert not flush(turn.pk, token, [first, second], False)
    assert turn.sides.values_list("text", "original")[0] == ("I am [model].", "I am Claude.")


def test_a_side_of_which_nothing_was_shown_cannot_be_judged(project, labeler):
    turn = chat(project, labeler)
    with pytest.raises(NotShown, match="Nothing of response B"):
        judge(turn, strength=-1, seen=[5, 0])
    with pytest.raises(NotShown, match="read the same"):
        judge(turn, strength=-1, seen=[8, 8])
    with pytest.raises(NotShown, match="not known"):
        judge(turn, seen=[5])
    assert not Prompt.objects.exists() and not Comparison.objects.exists()


def test_more_than_was_generated_cannot_have_been_seen(project, labeler):
    turn = judge(chat(project, labeler), seen=[10**6, 10**6])
    assert [side.seen for side in turn.sides.all()] == [len(side.original) for side in turn.sides.all()]


def test_a_replay_returns_the_stored_turn_and_a_changed_body_is_refused(project, labeler):
    turn, submission = chat(project, labeler), uuid4()
    judged = judge(turn, strength=-1, submission_id=submission)
    assert judge(turn, strength=-1, submission_id=submission).judgment == judged.judgment
    with pytest.raises(ChangedBody):
        judge(turn, strength=1, submission_id=submission)
    with pytest.raises(AlreadyJudged):
        judge(turn, strength=1)
    assert Judgment.objects.count() == Slot.objects.count() == 1


def test_an_answer_that_the_protocol_does_not_know_stores_nothing(project, labeler):
    turn = chat(project, labeler)
    with pytest.raises(NotAnAnswer):
        judge(turn, strength=4)
    assert not Prompt.objects.exists()
    judge(turn)


def test_the_conversation_goes_on_with_the_winner(project, labeler, upstream):
    first = judge(chat(project, labeler, "Argue for tea."), strength=3)
    won = first.sides.get(place=1).completion.text
    second = judge(chat(project, labeler, "Shorter."), strength=-1)
    talk = [
        {"role": "user", "content": "Argue for tea."},
        {"role": "assistant", "content": won},
        {"role": "user", "content": "Shorter."},
    ]
    assert second.conversation == first.conversation and second.number == 2
    assert upstream.asked[-1][1]["messages"] == talk
    assert second.judgment.comparison.prompt.messages == talk
    groups = set(Prompt.objects.values_list("group", flat=True))
    assert len(groups) == 1, "every turn of a dialogue stays in one split"


@pytest.mark.parametrize("said", [{"strength": 0}, {"both_bad": True}])
def test_after_a_tie_the_labeler_says_with_which_it_goes_on(project, labeler, said):
    turn = judge(chat(project, labeler), **said)
    assert turn.continued is None
    with pytest.raises(OutOfStep):
        begin(project, labeler, "Next?")
    with pytest.raises(OutOfStep):
        go_on(turn_id=turn.pk, labeler=labeler, place=2)
    assert go_on(turn_id=turn.pk, labeler=labeler, place=1).continued == 1
    assert go_on(turn_id=turn.pk, labeler=labeler, place=1).continued == 1
    with pytest.raises(OutOfStep):
        go_on(turn_id=turn.pk, labeler=labeler, place=0)
    assert begin(project, labeler, "Next?").messages[1]["content"] == turn.sides.get(place=1).text


def test_ratings_ask_up_to_four_models_and_then_the_best_one_twice(project, labeler, upstream):
    ask_under(project, SLIDERS)
    for name in ("wolf", "hare", "crow"):
        add_model(project, upstream, name)
    turn = chat(project, labeler)
    assert turn.sides.count() == 4 and turn.propensity == pytest.approx(1 / 5)
    judged = judge(turn, ratings={"good": (10, 90, 30, 89)})
    assert judged.continued == 1
    order = judged.slot.display_order
    stored = judged.judgment.ratings["good"]
    assert [stored[position] for position in order] == [10, 90, 30, 89]
    again = chat(project, labeler, "More.")
    best = judged.sides.get(place=1).upstream
    assert [side.upstream for side in again.sides.all()] == [best, best] and again.propensity == 1


def test_equal_best_ratings_leave_the_choice_to_the_labeler():
    answer = Answer(ratings={"good": (50, 90, 90)})
    assert continuation(answer, SLIDERS, 3) is None
    assert continuation(Answer(ratings={"good": (50, 90, 91)}), SLIDERS, 3) == 2
    assert continuation(Answer(strength=1), PAIR, 2) == 1
    assert continuation(Answer(both_bad=True), PAIR, 2) is None


def test_a_snapshot_has_the_pairs_of_the_chat(project, labeler, tmp_path):
    judge(chat(project, labeler, "Argue for tea."), strength=3)
    first = judge(chat(project, labeler, "Shorter."), strength=-1)
    counts = write_files(project, tmp_path)
    assert counts.pairs_train + counts.pairs_test == 2 and counts.judgments == 2
    rows = [json.loads(line) for path in tmp_path.glob("pairs-*.jsonl") for line in path.read_text().splitlines()]
    row = next(row for row in rows if row["comparison"] == first.judgment.comparison_id)
    assert row["prompt"] == first.messages and row["chosen"][0]["content"] == first.sides.get(place=0).text
    judgments = [json.loads(line) for line in (tmp_path / "judgments.jsonl").read_text().splitlines()]
    assert {line["origin"] for line in judgments} == {"chat"}


def test_the_same_two_texts_from_two_people_share_a_comparison_with_a_slot_each(project, labeler, upstream):
    upstream.chunks = {"lion": ("Roar",), "raven": ("Croak",)}
    other = make_user()
    add_member(project, other, "labeler")
    judge(chat(project, labeler))
    judge(chat(project, other), strength=1)
    assert Comparison.objects.count() == 1
    assert [slot.number for slot in Slot.objects.order_by("pk")] == [0, 1]
    end(conversation_id=ChatTurn.objects.first().conversation_id, labeler=labeler)
    with pytest.raises(AlreadyJudged):
        judge(chat(project, labeler))


def test_a_failed_model_fails_the_turn_and_another_draw_leaves_it_out(project, labeler, upstream):
    add_model(project, upstream, "wolf")
    upstream.trouble["lion"] = "fail"
    turn = begin(project, labeler)
    lion = project.upstream_models.get(name="lion")
    turn.sides.filter(place=0).update(upstream=lion)
    turn.sides.filter(place=1).update(upstream=project.upstream_models.get(name="raven"))
    asyncio.run(run_to_end(turn.pk))
    turn.refresh_from_db()
    assert turn.state == "failed" and "refused to answer" in turn.error
    assert "lion" not in turn.error
    assert not Prompt.objects.exists()
    with pytest.raises(OutOfStep):
        judge(turn)
    again = try_again(turn_id=turn.pk, labeler=labeler)
    assert {side.upstream.name for side in again.sides.all()} == {"raven", "wolf"}
    assert (again.state, again.attempt, again.messages) == ("waiting", 2, turn.messages)
    with pytest.raises(OutOfStep):
        try_again(turn_id=turn.pk, labeler=labeler)
    asyncio.run(run_to_end(turn.pk))
    judge(turn)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [("redirect", "refused to answer"), ("break", "broke off"), ("empty", "said nothing")],
)
def test_what_goes_wrong_is_said_without_a_name(project, labeler, upstream, trouble, sentence):
    upstream.trouble["raven"] = trouble
    turn = chat(project, labeler)
    assert turn.state == "failed" and sentence in turn.error and "raven" not in turn.error
    assert "redirected" not in [model for model, *_ in upstream.asked]


def test_two_equal_answers_are_nothing_to_compare(project, labeler, upstream):
    upstream.chunks = {"lion": ("Same.",), "raven": ("Same.",)}
    turn = chat(project, labeler)
    assert turn.state == "failed" and "the same answer" in turn.error


def test_a_turn_is_refused_to_whoever_may_not_work(project, labeler):
    membership = project.memberships.get(user=labeler)
    membership.paused_at, membership.paused_because = project.created_at, "a holiday"
    with pytest.raises(NotNow, match="a holiday"):
        start_turn(membership=membership, key=uuid4(), text="x")
    membership.paused_at, membership.daily_cap = None, 1
    judge(chat(project, labeler))
    with pytest.raises(NotNow, match="cap"):
        start_turn(membership=membership, key=uuid4(), text="x")
    membership.daily_cap = None
    project.consent_version = ConsentVersion.objects.create(project=project, number=1, text="All is published.")
    membership.project = project
    with pytest.raises(NotNow, match="consent"):
        start_turn(membership=membership, key=uuid4(), text="x")
    project.consent_version, project.quiz_items = None, 2
    with pytest.raises(NotNow, match="quiz"):
        start_turn(membership=membership, key=uuid4(), text="x")


def test_one_turn_runs_at_a_time_and_a_replay_is_the_same_turn(project, labeler):
    membership, key = project.memberships.get(user=labeler), uuid4()
    turn = start_turn(membership=membership, key=key, text="Tea?")
    assert start_turn(membership=membership, key=key, text="Tea?") == turn
    with pytest.raises((NotNow, OutOfStep)):
        start_turn(membership=membership, key=uuid4(), text="Coffee?")
    assert ChatTurn.objects.count() == 1


@pytest.mark.parametrize("text", ["", "  \n", "x" * 8001, "a\0b"])
def test_a_prompt_that_cannot_be_asked_is_refused(project, labeler, text):
    with pytest.raises(BadPrompt):
        begin(project, labeler, text)
    assert not ChatTurn.objects.exists()


def test_without_models_or_without_a_protocol_for_chat_nothing_is_asked(project, labeler):
    project.upstream_models.all().delete()
    with pytest.raises(NothingToAsk, match="No model"):
        begin(project, labeler)
    project.protocol_versions.create(number=9, definition=PROTOCOL)
    with pytest.raises(NothingToAsk, match="does not chat"):
        begin(project, labeler)


def test_a_conversation_has_so_many_turns_and_can_be_ended_twice(project, labeler):
    for number in range(MOST_TURNS):
        turn = judge(chat(project, labeler, f"Turn {number}?"))
    with pytest.raises(OutOfStep, match="End it"):
        begin(project, labeler)
    ended = end(conversation_id=turn.conversation_id, labeler=labeler)
    assert end(conversation_id=turn.conversation_id, labeler=labeler).ended_at == ended.ended_at
    assert begin(project, labeler).conversation != ended


def test_an_unjudged_turn_of_an_ended_conversation_leaves_no_rows(project, labeler):
    turn = chat(project, labeler)
    end(conversation_id=turn.conversation_id, labeler=labeler)
    with pytest.raises(OutOfStep):
        judge(turn)
    assert not Prompt.objects.exists() and not Completion.objects.exists()
