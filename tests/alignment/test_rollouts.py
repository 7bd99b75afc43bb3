"""Rollouts: sampler and trainer agree, every completion has its own seed, and a half-used rollout is kept whole."""

import json

import pytest
import torch

from alignment.config import JobError, build
from alignment.config.online import Sampling
from alignment.models.checkpoints import load_policy
from alignment.sampling.rollouts import (
    Rollouts,
    batch_logprobs,
    batch_of,
    minibatch_at,
    prompts_at,
    read_prompts,
    require_agreement,
    rollout_logprobs,
    rollout_tensors,
    sample_completions,
    set_aside,
)
from tests.alignment.snapshots import planted_pairs, user, write_snapshot

HOW = build(Sampling, {"prompts": 3, "completions": 4, "max_new_tokens": 12})


@pytest.fixture
def prompts(tmp_path, tokenizer):
    texts = ["Why?", "Argue that books are better than television.", "Go on, please."]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "messages": user(t)}) + "\n" for i, t in enumerate(texts)))
    return read_prompts(str(path), None, tokenizer, room=200)


def sampled(policy, tokenizer, prompts, how=HOW, occasion=(0, 0)):
    made = sample_completions(policy, tokenizer, prompts, how, seed=7, occasion=occasion)
    return made, rollout_tensors(made, tokenizer.pad_token_id, policy.device)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.5])
def test_sampler_and_trainer_agree_on_every_log_probability(policy, tokenizer, prompts, temperature):
    how = build(Sampling, {"completions": 8, "max_new_tokens": 24, "temperature": temperature})
    _, tensors = sampled(policy, tokenizer, prompts, how)
    ours = rollout_logprobs(policy, tensors, temperature)
    assert (ours - tensors["old"]).abs().max() <= 1e-5  # the promise is 1e-4
    assert require_agreement(ours, tensors["old"]) <= 1e-5


def test_a_disagreement_is_told_and_not_trained_on(policy, tokenizer, prompts):
    _, tensors = sampled(policy, tokenizer, prompts)
    with pytest.raises(RuntimeError, match="differ by"):
        require_agreement(rollout_logprobs(policy, tensors, 0.9), tensors["old"])
    with pytest.raises(RuntimeError, match="nan"):
        require_agreement(tensors["old"] * float("nan"), tensors["old"])


def test_the_end_token_is_learnt_and_nothing_follows_it(policy, tokenizer, prompts):
    with torch.no_grad():  # an end token that is likely enough to be met, by a bias along the head's own row
        policy.get_output_embeddings().weight[tokenizer.eos_token_id] *= 3
    made, tensors = sampled(policy, tokenizer, prompts, build(Sampling, {"completions": 32, "max_new_tokens": 12}))
    batch = batch_of(tensors)
    ended = [i for i, c in enumerate(made) if c.sample.finished]
    assert ended
    for i in ended:
        learnt = batch.ids[i][batch.completion[i]].tolist()
        assert learnt == made[i].sample.ids
        assert learnt.index(tokenizer.eos_token_id) == len(learnt) - 1
    assert tensors["finished"].tolist() == [c.sample.finished for c in made]
    assert not batch.completion[:, : min(len(p.ids) for p in prompts)].any()


def test_neither_padding_nor_the_cut_into_passes_changes_a_log_probability(policy, tokenizer, prompts):
    _, tensors = sampled(policy, tokenizer, prompts)
    whole = rollout_logprobs(policy, tensors, 1.0)
    assert torch.allclose(rollout_logprobs(policy, tensors, 1.0, tokens=1), whole, atol=1e-5)
    wide = {name: torch.nn.functional.pad(t, (0, 9)) if t.ndim == 2 else t for name, t in tensors.items()}
    found = batch_logprobs(policy, batch_of(wide), 1.0).detach()
    assert torch.allclose(found[:, : whole.shape[1]], whole, atol=1e-5)
    assert not found[:, whole.shape[1] :].any()


def test_a_completion_depends_on_its_own_seed_only(policy, tokenizer, prompts):
    all_three = sampled(policy, tokenizer, prompts)[0]
    alone = sampled(policy, tokenizer, prompts[1:2])[0]
    assert [c.sample.ids for c in alone] == [c.sample.ids for c in all_three[4:8]]
    later = sampled(policy, tokenizer, prompts, occasion=(1, 0))[0]
    assert [c.sample.ids for c in later] != [c.sample.ids for c in all_three]
    assert len({tuple(c.sample.ids) for c in all_three}) == 12


def test_every_epoch_meets_every_prompt_once_in_an_order_of_its_own(prompts):
    seen = [p.id for number in range(6) for p in prompts_at(prompts, 2, seed=5, number=number)]
    assert [sorted(seen[i : i + 3]) for i in range(0, 12, 3)] == [["p0", "p1", "p2"]] * 4
    assert len({tuple(seen[i : i + 3]) for i in range(0, 12, 3)}) > 1
    assert [p.id for p in prompts_at(prompts, 2, seed=5, number=3)] == seen[6:8]


def test_every_pass_meets_every_row_once():
    steps = [minibatch_at(8, 4, seed=1, step=step) for step in range(4)]
    assert sorted(steps[0] + steps[1]) == sorted(steps[2] + steps[3]) == list(range(8))
    assert steps[:2] != steps[2:]


def test_held_out_prompts_are_chosen_by_their_text(tokenizer, tmp_path):
    rows = [{"id": i, "messages": user(f"Question {i % 40}?")} for i in range(60)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    every = read_prompts(str(path), None, tokenizer, room=200)
    kept, held_out = set_aside(every, 3)
    assert len({str(p.messages) for p in held_out}) == 3
    assert not {str(p.messages) for p in kept} & {str(p.messages) for p in held_out}
    assert len(kept) + len(held_out) == 60
    assert [p.id for p in set_aside(every[::-1], 3)[1]] == [p.id for p in held_out][::-1]
    assert set_aside(every[:5], 3)[1] == []  # too few to spare any


def test_prompts_come_from_the_snapshot_where_no_file_is_named(tmp_path, tokenizer):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(32, seed=0))
    found = read_prompts("", tmp_path / "s", tokenizer, room=200)
    assert len({str(p.messages) for p in found}) == len(found) <= 8
    assert snapshot.path
    with pytest.raises(JobError, match="no prompts"):
        read_prompts("", None, tokenizer, room=200)


def test_a_bad_prompt_is_named_by_its_line(tmp_path, tokenizer):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"id": 1, "messages": user("Why?")}) + '\n{"id": 2}\n')
    with pytest.raises(JobError, match="line 2"):
        read_prompts(str(path), None, tokenizer, room=200)
    with pytest.raises(JobError, match="max_new_tokens"):
        read_prompts(str(path), None, tokenizer, room=0)


def test_a_half_used_rollout_survives_its_state(policy, tokenizer, prompts):
    before, after = Rollouts(), Rollouts()
    before.fill(sampled(policy, tokenizer, prompts)[1], {"reward": 0.5})
    after.load_state_dict(before.state_dict())
    assert after.figures == {"reward": 0.5}
    taken, again = before.take([1, 5]), after.take([1, 5])
    assert set(taken) == {"ids", "prompt_tokens", "tokens", "finished", "old"}
    assert all(torch.equal(taken[name], again[name]) for name in taken)
    assert taken["ids"].shape[1] == int(taken["tokens"].max())


def test_a_prompt_longer_than_the_context_keeps_its_end(tmp_path, parent, tokenizer):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"id": 0, "messages": user("word " * 300)}) + "\n")
    found = read_prompts(str(path), None, tokenizer, room=40)
    assert len(found[0].ids) == 40
    made = sample_completions(load_policy(parent.path), tokenizer, found, HOW, seed=0, occasion=[0])
    assert all(c.prompt.ids == found[0].ids for c in made)
