"""Curves of over-optimisation and RewardBench files through the stage `evaluate`, on models that know nothing."""

import json
import math

import pytest

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, Input, JobError
from alignment.data.text import load_tokenizer
from alignment.measures.curves import read_points
from alignment.models.checkpoints import load_policy, save_checkpoint
from tests.alignment.snapshots import make_job, planted_pairs, write_snapshot
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_reward

QUICK = {"bootstrap": 100, "max_prompts": 5, "samples": 2, "max_new_tokens": 6, "batch_size": 16}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, parent):
    """A parent, three policies ever further from it as the checkpoints of a run, and two judges that disagree."""
    folder = tmp_path_factory.mktemp("curve")
    snapshot = write_snapshot(folder / "s", planted_pairs(24, seed=0), planted_pairs(12, seed=1))
    made = {"snapshot": snapshot, "parent": parent}
    for seed, name in enumerate(["reward", "gold"], start=5):
        made[name] = Input(str(folder / name), make_tiny_reward(folder / name, parent.path, seed=seed))
    for number in (1, 2, 10):
        path = folder / f"checkpoint_{number}"
        policy = load_policy(parent.path)
        policy.get_output_embeddings().weight.data *= 5 * number  # ever surer of itself, and further from the parent
        digest = save_checkpoint(policy, load_tokenizer(parent.path), path, {"stage": "tiny"})
        made[path.name] = Input(str(path), digest)
    return made


def evaluated(tmp_path, inputs, **config):
    code, result = run(make_job("evaluate", tmp_path / "out", {**QUICK, **config}, **inputs), tmp_path)
    return code, result, {entry["key"]: entry for entry in result["metrics"]}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_curves_are_measured_and_their_points_written(tmp_path, inputs):
    bench = [{"prompt": "Why?", "chosen": f"{i} yes", "rejected": f"{i} no", "subset": "hep-go"} for i in range(4)]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bench))
    code, result, metrics = evaluated(tmp_path, inputs, best_of=8, reward_bench=str(tmp_path / "bench.jsonl"))
    assert code == EXIT_DONE, result["reason"]
    rows = rows_of(tmp_path / "out" / "curve.jsonl")
    assert [row["point"] for row in rows[:4]] == ["best of 1", "best of 2", "best of 4", "best of 8"]
    assert [row["point"] for row in rows[4:]] == ["checkpoint_1", "checkpoint_2", "checkpoint_10"]
    best, learnt = rows[:4], rows[4:]
    assert best[0]["gold"] == best[0]["kl_nats"] == 0
    assert best[3]["kl_nats"] == pytest.approx(math.log(8) - 7 / 8)
    proxies = [row["proxy"] for row in best]
    assert proxies == sorted(proxies) and proxies[-1] > 0.5  # the best by proxy has ever more of it
    assert learnt[0]["kl_nats"] < learnt[1]["kl_nats"] < learnt[2]["kl_nats"]
    assert all(math.isfinite(row["gold"]) for row in learnt)
    for form in ("best_of_n", "learning"):
        assert metrics[f"overoptimisation_{form}_alpha"]["clusters"] == 5
        assert metrics[f"overoptimisation_{form}_r2"]["value"] <= 1
    assert metrics["rewardbench_hep-go"]["n"] == metrics["rewardbench_section_reasoning"]["n"] == 4
    assert {"accuracy_length_similar", "accuracy_length_much_longer"} <= set(metrics)


def test_a_curve_of_held_out_judgments_is_read_from_a_file(tmp_path, inputs):
    gold = {d: d * (1 - 0.3 * math.log(d)) for d in (0.5, 1.0, 2.0, 4.0)}
    rows = [{"prompt": p, "kl_nats": d * d, "gold": value} for d, value in gold.items() for p in "abc"]
    (tmp_path / "points.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = {name: inputs[name] for name in ("snapshot", "reward")}
    code, _, metrics = evaluated(tmp_path, plain, gold_points=str(tmp_path / "points.jsonl"))
    assert code == EXIT_DONE
    assert metrics["overoptimisation_learning_alpha"]["value"] == pytest.approx(1.0)
    assert metrics["overoptimisation_learning_beta"]["value"] == pytest.approx(0.3)
    assert metrics["overoptimisation_learning_peak"]["value"] == pytest.approx(math.exp(2 * (1 / 0.3 - 1)))
    named = [row["point"] for row in rows_of(tmp_path / "out" / "curve.jsonl")]
    assert named == ["0.25 nats", "1 nats", "4 nats", "16 nats"]


@pytest.mark.parametrize(
    ("names", "config", "sentence"),
    [
        (["checkpoint_1"], {}, "needs the input 'gold'"),
        ([], {"best_of": 8}, "needs the input 'gold'"),
        (["gold", "parent", "policy"], {}, "set best_of, or name inputs checkpoint_1"),
        (["gold", "checkpoint_1", "checkpoint_2"], {}, "at least 3 checkpoints of a run; the job names 2"),
        (["gold"], {"best_of": 8}, "needs the input 'parent'"),
        ([], {"best_of": 4}, "best_of is 4: at least 8"),
    ],
)
def test_a_curve_that_cannot_be_measured_is_refused_at_once(tmp_path, inputs, names, config, sentence):
    given = {**inputs, "policy": inputs["checkpoint_1"]}
    code, result, _ = evaluated(tmp_path, {name: given[name] for name in ["snapshot", "reward", *names]}, **config)
    assert code == EXIT_BAD_INPUT
    assert sentence in result["reason"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"prompt": "a", "kl_nats": "far", "gold": 1}], 'line 1: a judgment has "prompt"'),
        ([{"prompt": "a", "kl_nats": d, "gold": 1} for d in (1, 2, 2)], "has 2 distances; a curve needs at least 3"),
    ],
)
def test_a_file_of_judgments_that_makes_no_curve_is_refused(tmp_path, rows, sentence):
    (tmp_path / "points.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(JobError, match=sentence):
        read_points(str(tmp_path / "points.jsonl"))
