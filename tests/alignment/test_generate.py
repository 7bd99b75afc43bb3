import json
import os
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch

from alignment import generate
from alignment.config import GenerateConfig, Job, JobError, Stopped
from alignment.data.text import encode_prompt
from alignment.sampling.decode import Decoder, Row, next_tokens, nucleus, sample

PROMPTS = ["Argue that books are good.", "What is that?", "Books are better than television because people think", "He"]


def encoded(tokenizer):
    return [encode_prompt(tokenizer, prompt) for prompt in PROMPTS]


def sampled(policy, tokenizer, prompts, **changes):
    settings = {"seeds": range(len(prompts)), "max_new_tokens": 24, "batch_size": 4, **changes}
    return sample(policy, tokenizer, prompts, **settings)


def test_greedy_equals_transformers_generate(policy, tokenizer):
    mine = sampled(policy, tokenizer, encoded(tokenizer), temperature=0.0)
    for prompt, completion in zip(encoded(tokenizer), mine, strict=True):
        theirs = policy.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)[0, len(prompt) :].tolist()
        assert completion.ids == theirs


def test_a_sample_depends_on_its_prompt_and_seed_and_not_on_its_batch(policy, tokenizer):
    prompts = encoded(tokenizer)
    together = sampled(policy, tokenizer, prompts)
    for batch_size in (1, 2, 3):
        assert [s.ids for s in sampled(policy, tokenizer, prompts, batch_size=batch_size)] == [s.ids for s in together]
    backwards = sampled(policy, tokenizer, prompts[::-1], seeds=range(len(prompts))[::-1])
    assert [s.ids for s in backwards[::-1]] == [s.ids for s in together]
    assert [s.ids for s in sampled(policy, tokenizer, prompts, seeds=[9, 8, 7, 6])] != [s.ids for s in together]


def test_logprobs_are_those_of_a_plain_forward_pass(policy, tokenizer):
    prompt = encoded(tokenizer)[0]
    for temperature in (0.5, 1.0, 2.0):
        made = sampled(policy, tokenizer, [prompt], temperature=temperature)[0]
        with torch.no_grad():
            logits = policy(torch.tensor([prompt + made.ids])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits / temperature, -1).gather(1, torch.tensor(made.ids)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(made.logprobs), expected, atol=2e-5)


def test_rows_join_and_leave_between_steps_without_touching_the_others(policy, tokenizer):
    prompts = encoded(tokenizer)
    alone = sampled(policy, tokenizer, prompts)
    decoder = Decoder(policy, tokenizer.eos_token_id)
    numbers = {decoder.add_row(prompts[0], seed=0, max_new_tokens=24): 0}
    made = {i: [] for i in range(4)}
    for turn in range(60):
        if turn in (2, 5, 9):
            i = len(numbers)
            numbers[decoder.add_row(prompts[i], seed=i, max_new_tokens=24)] = i
        if turn == 6:
            decoder.remove(2)
        for token in decoder.step():
            made[numbers[token.row]].append(token.id)
    assert len(decoder) == 0
    assert made[0] == alone[0].ids and made[2] == alone[2].ids and made[3] == alone[3].ids
    assert 0 < len(made[1]) < len(alone[1].ids) and made[1] == alone[1].ids[: len(made[1])]


def test_each_row_has_its_own_temperature_limit_and_nucleus(policy, tokenizer):
    prompt = encoded(tokenizer)[0]
    decoder = Decoder(policy, tokenizer.eos_token_id)
    greedy = decoder.add_row(prompt, seed=1, temperature=0.0, max_new_tokens=5)
    narrow = decoder.add_row(prompt, seed=2, top_p=1e-9, max_new_tokens=3)
    decoder.add_row(prompt, seed=3, max_new_tokens=7)
    tokens = [token for _ in range(8) for token in decoder.step()]
    by_row = {n: [t for t in tokens if t.row == n] for n in (1, 2, 3)}
    assert {n: len(ts) for n, ts in by_row.items()} == {1: 5, 2: 3, 3: 7}
    assert [t.id for t in by_row[narrow]] == [t.id for t in by_row[greedy]][:3]
    assert [t.end for t in by_row[greedy]] == ["", "", "", "", "length"]


def test_a_row_stops_at_the_end_token_and_keeps_it_out_of_the_text(policy, tokenizer):
    with torch.no_grad():
        policy.get_input_embeddings().weight[tokenizer.eos_token_id] *= 40
    made = sampled(policy, tokenizer, encoded(tokenizer), max_new_tokens=200)
    assert any(s.finished for s in made)
    for completion in made:
        assert (completion.ids[-1] == tokenizer.eos_token_id) == completion.finished
        assert tokenizer.eos_token_id not in completion.ids[:-1] and "<|end|>" not in completion.text


def test_draws_follow_the_distribution():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    row = Row(1, [0], 1.0, 1.0, 1, torch.Generator().manual_seed(0))
    drawn = torch.tensor([next_tokens(logits, [row])[0].item() for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(shares, torch.softmax(logits[0], 0), atol=0.03)  # four standard errors


def test_the_nucleus_is_the_smallest_set_that_reaches_p():
    shares = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.1, 0.5, 0.15, 0.25], [0.1, 0.5, 0.15, 0.25]])
    kept = nucleus(shares, torch.tensor([0.5, 0.6, 1.0]))
    assert kept.gt(0).tolist() == [
        [False, True, False, False],
        [False, True, False, True],
        [True, True, True, True],
    ]


def test_logits_that_are_not_finite_are_refused(policy, tokenizer):
    with torch.no_grad():
        policy.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="not finite"):
        sampled(policy, tokenizer, encoded(tokenizer))


def test_a_prompt_that_leaves_no_room_is_refused_by_the_decoder_and_cut_by_sample(policy, tokenizer):
    long = encoded(tokenizer)[0] * 20
    with pytest.raises(JobError, match="context of 256"):
        Decoder(policy, 1).add_row(long, seed=0, max_new_tokens=8)
    cut = sampled(policy, tokenizer, [long], max_new_tokens=8)[0]
    assert cut.ids == sampled(policy, tokenizer, [long[-248:]], max_new_tokens=8)[0].ids
    with pytest.raises(JobError, match="below the context"):
        sampled(policy, tokenizer, [long], max_new_tokens=256)


@pytest.fixture
def job(tmp_path, tiny_policy):
    rows = [{"id": i, "messages": [{"role": "user", "content": text}]} for i, text in enumerate(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"prompts": str(tmp_path / "prompts.jsonl"), "samples": 2, "max_new_tokens": 12, "batch_size": 2}
    inputs = {"policy": {"path": str(tiny_policy[0]), "sha256": tiny_policy[1]}}
    raw = {"stage": "generate", "inputs": inputs, "config": config, "seed": 3, "output": str(tmp_path / "out")}
    return Job.from_dict(raw)


def completions(path):
    return [json.loads(line) for line in (path / "completions.jsonl").read_text().splitlines()]


def test_the_stage_writes_a_row_a_sample_and_summarises_them(job, tmp_path):
    result = generate.run(job, GenerateConfig(**job.config))
    rows = completions(tmp_path / "out")
    assert [(row["id"], row["sample"]) for row in rows] == [(i, s) for i in range(4) for s in range(2)]
    assert len({row["seed"] for row in rows}) == 8
    assert {m["key"] for m in result["metrics"]} == {"mean_tokens", "finished_share"}
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 2


def stop_when_rows_appear(path):
    """Ask this very process to stop, as a worker would, once the first rows are written."""
    while not (path / "metrics.jsonl").is_file() or not (path / "metrics.jsonl").read_text():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def own_sigterm():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_stopped_run_continues_to_the_same_rows(job, tmp_path, own_sigterm):
    many = replace(job, config={**job.config, "samples": 12})
    generate.run(many, GenerateConfig(**many.config))
    whole = completions(tmp_path / "out")
    first = replace(many, output=str(tmp_path / "first"))
    threading.Thread(target=stop_when_rows_appear, args=[tmp_path / "first"]).start()
    with pytest.raises(Stopped, match="of 48"):
        generate.run(first, GenerateConfig(**many.config))
    torn = tmp_path / "first" / "completions.jsonl"
    torn.write_text(torn.read_text() + '{"id": 2, "sam')
    again = replace(many, output=str(tmp_path / "again"), resume_from=str(tmp_path / "first"))
    generate.run(again, GenerateConfig(**many.config))
    assert completions(tmp_path / "again") == whole


def test_a_prompt_without_messages_is_named_by_its_line(job, tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"id": 1, "text": "hello"}\n')
    with pytest.raises(JobError, match="line 1"):
        generate.run(job, GenerateConfig(**job.config))
