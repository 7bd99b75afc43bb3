"""Every kind of label and head learns what was planted for it, and nothing hangs on how a batch is cut or ordered."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, RewardConfig, build
from alignment.losses.reward import davidson
from alignment.models.checkpoints import load_reward, reward_from_policy
from alignment.models.heads import aggregated, columns_of, head_names, one_head
from alignment.models.precision import prepare_for_training
from alignment.models.scores import backward, unit_scores
from alignment.objectives.examples import read_data
from alignment.objectives.reward import TieParameter, batch_of, terms, total
from alignment.sampling.judge import judged, load_judge, member_scores, read_normalisation
from tests.alignment.snapshots import WORDS, judgment, make_job, planted_pairs, user, write_snapshot
from tests.alignment.stages import FAST, run

ASK = user("Argue that books help.")
GRADES = ["awful", "bad", "good", "great"]


def text(generator, word: str) -> str:
    words = list(generator.choice(WORDS, size=3))
    words.insert(int(generator.integers(4)), word)
    return " ".join(words)


def planted_judgments(n: int, *, seed: int, size: int = 2, split: str = "train") -> list[dict]:
    """Completions with a grade in words. Overall and "helpful" prefer the higher one, "brief" the lower one; what is
    awful or bad is unsafe. Equal grades are tied."""
    generator, rows = np.random.default_rng(seed), []
    for number in range(n):
        grades = generator.integers(4, size=size).tolist()
        texts = [text(generator, GRADES[grade]) for grade in grades]
        tiers = [[p for p in range(size) if grades[p] == level] for level in sorted(set(grades), reverse=True)]
        rows.append(
            judgment(f"Argue that {generator.choice(WORDS)}s help.", texts, tiers, comparison=number, split=split,
                     ratings={"helpful": grades, "brief": [4 - grade for grade in grades]},
                     safety=["unsafe" if grade < 2 else "safe" for grade in grades])
        )  # fmt: skip
    return rows


def pairs_of(rows: list[dict]) -> list[dict]:
    """The decisive pairs of the judgments, as a snapshot has them."""
    found = []
    for row in rows:
        level = {place: n for n, tier in enumerate(row["ranking"]) for place in tier}
        for a, b in combinations(level, 2):
            if level[a] != level[b]:
                best, worst = sorted((a, b), key=level.get)
                texts = [[{"role": "assistant", "content": row["completions"][place]}] for place in (best, worst)]
                found.append({"prompt": row["prompt"], "chosen": texts[0], "rejected": texts[1], "margin": 0.0,
                              "group": row["group"], "comparison": row["comparison"]})  # fmt: skip
    return found


def trained(tmp_path, parent, config, *, size=2, n=96, optimization=FAST):
    """(result, path of the checkpoint)."""
    train = planted_judgments(n, seed=0, size=size)
    test = planted_judgments(40, seed=1, size=size, split="test")
    snapshot = write_snapshot(tmp_path / "s", pairs_of(train), pairs_of(test), [*train, *test])
    config = {"margin": "none", **config, "optimization": optimization}
    exit_code, result = run(make_job("reward", tmp_path / "out", config, snapshot=snapshot, parent=parent), tmp_path)
    assert exit_code == EXIT_DONE, result
    return result, tmp_path / "out" / "checkpoint"


def figures(result) -> dict[str, float]:
    return {entry["key"]: entry["value"] for entry in result["metrics"]}


def scores_by_grade(checkpoint, head="reward") -> list[float]:
    """Mean score of unseen texts of each grade."""
    generator = np.random.default_rng(5)
    judge = load_judge(checkpoint, head=head)
    return [
        judged(judge, [(ASK, text(generator, grade)) for _ in range(16)], 128).mean().item() for grade in GRADES
    ]


def card_of(checkpoint) -> dict:
    return json.loads((checkpoint / "card.json").read_text())


def test_rankings_with_ties_are_learned_whole(tmp_path, parent):
    config = {"labels": {"ranking": "plackett_luce"}, "tie_weight": 1.0}
    result, checkpoint = trained(tmp_path, parent, config, size=4, n=64)
    assert figures(result)["held_out_accuracy"] >= 0.9
    by_grade = scores_by_grade(checkpoint)
    assert by_grade == sorted(by_grade)
    assert card_of(checkpoint)["tie_parameter"] > 0


def test_rankings_without_a_tie_model_are_learned_too(tmp_path, parent):
    result, _ = trained(tmp_path, parent, {"labels": {"ranking": "plackett_luce"}}, size=4, n=64)
    assert figures(result)["held_out_accuracy"] >= 0.9


def test_soft_labels_are_learned_as_shares(tmp_path, parent):
    """Four annotators: of "great" over "bad" all are sure, of "good" over "awful" only three of four."""
    generator, rows = np.random.default_rng(0), []
    for number in range(96):
        sure = number % 2
        texts = [text(generator, word) for word in (("great", "bad") if sure else ("good", "awful"))]
        for n, annotator in enumerate("abcd"):
            ranking = [[0], [1]] if sure or n else [[1], [0]]
            rows.append(judgment("Why?", texts, ranking, comparison=number, annotator=annotator))
    snapshot = write_snapshot(tmp_path / "s", [], [], rows)
    config = {"margin": "none", "labels": {"source": "votes"}, "optimization": {**FAST, "epochs": 6}}
    exit_code, _ = run(make_job("reward", tmp_path / "out", config, snapshot=snapshot, parent=parent), tmp_path)
    assert exit_code == EXIT_DONE
    awful, bad, good, great = scores_by_grade(tmp_path / "out" / "checkpoint")
    assert good - awful == pytest.approx(math.log(3), abs=0.5)  # three to one
    assert great - bad > 2.5


def test_an_annotator_of_no_weight_teaches_nothing(tmp_path, parent):
    """Two of three annotators always say the reverse; the file trusts the third alone."""
    generator, rows = np.random.default_rng(0), []
    for number in range(80):
        texts = [text(generator, word) for word in ("great", "bad")]
        for annotator, ranking in (("honest", [[0], [1]]), ("x", [[1], [0]]), ("y", [[1], [0]])):
            rows.append(judgment("Why?", texts, ranking, comparison=number, annotator=annotator))
    snapshot = write_snapshot(tmp_path / "s", [], [], rows)
    (tmp_path / "weights.json").write_text('{"annotators": {"x": 0, "y": 0}}')
    gaps = []
    for weights in ("", str(tmp_path / "weights.json")):
        config = {"labels": {"source": "votes", "weights_file": weights}, "optimization": FAST}
        out = tmp_path / f"out{len(gaps)}"
        run(make_job("reward", out, config, snapshot=snapshot, parent=parent), tmp_path)
        _, bad, _, great = scores_by_grade(out / "checkpoint")
        gaps.append(great - bad)
    assert gaps[0] < 0 < 1 < gaps[1]


def test_annotators_cannot_weigh_where_only_majorities_are_read(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(16, seed=0))
    (tmp_path / "weights.json").write_text('{"annotators": {"x": 0}}')
    config = {"labels": {"weights_file": str(tmp_path / "weights.json")}}
    exit_code, result = run(make_job("reward", tmp_path / "out", config, snapshot=snapshot, parent=parent), tmp_path)
    assert exit_code == EXIT_BAD_INPUT and "set labels.source to votes" in result["reason"]


def test_a_comparison_of_no_weight_teaches_nothing(tmp_path, parent, tokenizer):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(24, seed=0))
    (tmp_path / "weights.json").write_text(json.dumps({"comparisons": {str(n): 0 for n in range(20)}}))
    config = build(RewardConfig, {"labels": {"weights_file": str(tmp_path / "weights.json")}})
    data = read_data(tokenizer, tmp_path / "s", config, seed=0)
    assert snapshot and len(data.train) == 4


def test_criteria_and_safety_have_heads_of_their_own(tmp_path, parent):
    heads = {"criteria": ["helpful", "brief"], "safety": 1.0}
    result, checkpoint = trained(tmp_path, parent, {"heads": heads}, optimization={**FAST, "epochs": 5})

    found = figures(result)
    assert set(found) == {f"held_out_accuracy{of}" for of in ("", "_helpful", "_brief", "_cost")}
    assert min(found.values()) >= 0.85
    awful, bad, good, great = scores_by_grade(checkpoint, "helpful")
    assert awful < good and bad < great
    awful, bad, good, great = scores_by_grade(checkpoint, "brief")
    assert awful > good and bad > great  # the opposite order, from the same trunk
    awful, bad, good, great = scores_by_grade(checkpoint, "cost")
    assert min(awful, bad) > 0 > max(good, great)  # absolute: 0 is the boundary

    theirs = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    assert theirs.config.id2label == {0: "reward", 1: "helpful", 2: "brief", 3: "cost"}
    ids = torch.tensor([[3, 40, 41, 4, 50, 1]])
    assert torch.equal(theirs(ids).logits, load_reward(checkpoint)(ids).logits)
    stored = card_of(checkpoint)["normalisation"]
    assert set(stored["heads"]) == {"reward", "helpful", "brief"}  # a cost is never moved


def test_a_cost_model_alone_is_a_model_too(tmp_path, parent):
    config = {"heads": {"ensemble": 0, "safety": 1.0}}
    result, checkpoint = trained(tmp_path, parent, config, optimization={**FAST, "epochs": 6})
    assert figures(result) == {"held_out_accuracy_cost": pytest.approx(1.0, abs=0.15)}
    assert load_reward(checkpoint).config.id2label == {0: "cost"}
    with pytest.raises(Exception, match="no head 'reward'; it has cost"):
        load_judge(checkpoint)


def test_an_ensemble_learns_on_one_trunk_and_is_read_by_its_mean_its_worst_or_its_doubt(tmp_path, parent):
    result, checkpoint = trained(tmp_path, parent, {"heads": {"ensemble": 4}})
    assert figures(result)["held_out_accuracy"] >= 0.9
    assert load_reward(checkpoint).config.id2label == {n: f"reward#{n}" for n in range(4)}

    generator = np.random.default_rng(6)
    seen = [(ASK, text(generator, word)) for word in GRADES * 8]
    mean, worst, doubted = (
        judged(load_judge(checkpoint, aggregate=how, penalty=2.0, normalize=True), seen, 128)
        for how in ("mean", "min", "penalised")
    )
    assert (worst <= mean).all() and (doubted <= mean).all()
    assert (worst < mean).any() and (doubted < mean).any()  # the members differ
    stored = read_normalisation(checkpoint)
    assert set(stored) == {f"reward#{n}" for n in range(4)}


def test_the_stored_normalisation_is_that_of_the_training_completions(tmp_path, parent):
    _, checkpoint = trained(tmp_path, parent, {})
    rows = planted_judgments(96, seed=0)
    texts = [(row["prompt"], completion) for row in rows for completion in row["completions"]]
    plain, standard = (judged(load_judge(checkpoint, normalize=n), texts, 128) for n in (False, True))
    mean, sd = read_normalisation(checkpoint)["reward"]
    assert torch.allclose(standard, (plain - mean) / sd, atol=1e-5)
    assert abs(standard.mean().item()) < 0.2 and standard.std().item() == pytest.approx(1, abs=0.2)
    units = [[[5, 6, 1]], [[7, 1]]]
    assert member_scores(load_judge(checkpoint), units).shape == (2, 1)


def test_a_value_takes_the_mean_of_an_ensemble(parent):
    torch.manual_seed(0)
    model, ids = reward_from_policy(parent.path, ["reward#0", "reward#1", "cost"]), torch.tensor([[5, 6, 7, 1]])
    every = model(ids).logits[0]
    alone = one_head(model)(ids).logits
    assert alone.shape == (1, 1) and alone.item() == pytest.approx(every[:2].mean().item(), abs=1e-5)


@pytest.mark.parametrize("how", [{"lora": {"rank": 4}}, {"precision": "bf16"}])
def test_adapters_and_bf16_learn_and_leave_a_plain_checkpoint(tmp_path, parent, how):
    result, checkpoint = trained(tmp_path, parent, how, optimization={**FAST, "learning_rate": 1e-2, "epochs": 6})
    assert figures(result)["held_out_accuracy"] >= 0.75  # of 29 pairs; by chance one run in 200
    weights = load_reward(checkpoint).state_dict()
    assert not any("lora" in name for name in weights) and weights["score.weight"].dtype == torch.float32


@pytest.mark.parametrize("tokens", [10**9, 200], ids=["one pass", "cut"])
def test_layers_that_run_again_and_an_adapters_dropout_give_the_same_gradients(tmp_path, parent, tokenizer, tokens):
    write_snapshot(tmp_path / "s", [], [], planted_judgments(12, seed=0, size=3))
    found = []
    for again in (False, True):
        plan = {"activation_checkpointing": again}
        given = {**EVERYTHING, "lora": {"rank": 2, "dropout": 0.3}, "optimization": plan}
        config = build(RewardConfig, given)
        batch = batch_of(read_data(tokenizer, tmp_path / "s", config, seed=0).train, [], torch.device("cpu"))
        torch.manual_seed(0)
        model = reward_from_policy(parent.path, head_names(config.heads))
        prepare_for_training(model, config, make_job("reward", tmp_path, {}))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)  # at its start an adapter says nothing, whatever is dropped
        model.train()
        scores = backward(model, batch.units, 0, lambda s, b=batch, c=config: total(terms(s, b, c)), tokens)
        found.append((scores, torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])))
    (scores, plain), (same, again) = found
    assert torch.equal(scores, same)
    assert (plain - again).norm() <= 1e-5 * plain.norm()


def test_a_cut_batch_meets_the_dropout_that_its_scores_had(tmp_path, parent):
    """Passes that run twice have the gradient of the very masks that the scores came from."""
    config = build(RewardConfig, {"lora": {"rank": 2, "dropout": 0.5}})
    torch.manual_seed(0)
    model = reward_from_policy(parent.path)
    prepare_for_training(model, config, make_job("reward", tmp_path, {}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.train()
    units = [[[5, 6, 7 + n, 1], [9, 1]] for n in range(4)]
    found = []
    for cut in (True, False):
        torch.manual_seed(1)
        model.zero_grad()
        if cut:
            scores = backward(model, units, 0, lambda s: s.square().sum(), tokens=8)  # a pass a unit
        else:
            scores = torch.cat([unit_scores(model, [unit], 0) for unit in units])
            scores.square().sum().backward()
        found.append((scores.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert (found[0][1] - found[1][1]).norm() <= 1e-5 * found[1][1].norm()


def test_aggregates_against_hand_computed_values():
    scores = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0]])
    assert aggregated(scores, "mean").tolist() == [2.0, 0.0]
    assert aggregated(scores, "min").tolist() == [1.0, 0.0]
    assert aggregated(scores, "penalised", 0.5).tolist() == pytest.approx([2 - 0.5 * 2 / 3, 0.0])
    with pytest.raises(ValueError, match="mean, min or penalised"):
        aggregated(scores, "median")


def test_heads_are_found_by_name():
    names = head_names(build(RewardConfig, {"heads": {"ensemble": 2, "criteria": ["brief"], "safety": 1}}).heads)
    assert names == ["reward#0", "reward#1", "brief", "cost"]
    assert columns_of(names, "reward") == [0, 1] and columns_of(names, "reward#1") == [1]
    assert columns_of(names, "cost") == [3]


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"heads": {"criteria": ["honest"]}}, "no training pair that 'honest' orders"),
        ({"heads": {"safety": 1.0}}, "no training text with a safety label"),
        ({"labels": {"source": "votes"}}, "no training pair of"),
        ({"labels": {"ranking": "plackett_luce"}, "margin": "none"}, "no training pair of"),
    ],
)
def test_a_head_that_would_learn_nothing_is_refused(tmp_path, parent, config, missing):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(16, seed=0))
    exit_code, result = run(make_job("reward", tmp_path / "out", config, snapshot=snapshot, parent=parent), tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert missing in result["reason"]


EVERYTHING = {"tie_weight": 1.0, "labels": {"source": "votes"},
              "heads": {"ensemble": 2, "criteria": ["brief"], "safety": 0.5}}  # fmt: skip
RANKED = {"tie_weight": 1.0, "margin": "none", "labels": {"ranking": "plackett_luce"}}


@pytest.mark.parametrize("config", [EVERYTHING, RANKED], ids=["heads", "rankings"])
def test_nothing_hangs_on_how_a_batch_is_cut_or_ordered(tmp_path, parent, tokenizer, config):
    write_snapshot(tmp_path / "s", [], [], planted_judgments(12, seed=0, size=3))
    config = build(RewardConfig, config)
    examples = read_data(tokenizer, tmp_path / "s", config, seed=0).train
    torch.manual_seed(0)
    model, log_nu = reward_from_policy(parent.path, head_names(config.heads)), torch.tensor(-0.5)

    def gradients(examples, tokens):
        model.zero_grad()
        batch = batch_of(examples, [], model.device)
        scores = backward(model, batch.units, 0, lambda s: total(terms(s, batch, config, log_nu)), tokens)
        loss = total(terms(scores, batch, config, log_nu)).item()
        return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    loss, whole = gradients(examples, 10**9)
    for rows, tokens in ((examples, 1), (examples, 200), (examples[::-1], 10**9), (examples[5:] + examples[:5], 100)):
        other, cut = gradients(rows, tokens)
        assert other == pytest.approx(loss, abs=1e-5)
        assert (cut - whole).norm() <= 1e-4 * whole.norm()


def test_the_tie_parameter_finds_the_one_behind_the_data():
    """Strengths are fitted with it, as a model would: Davidson's data with nu 0.8, from a start without a spread."""
    generator, nu = torch.Generator().manual_seed(0), 0.8
    strengths = torch.randn(12, generator=generator) * 1.5
    pairs = torch.tensor(list(combinations(range(12), 2))).repeat(60, 1)
    half = (strengths[pairs[:, 0]] - strengths[pairs[:, 1]]) / 2
    chances = torch.stack([half.exp(), (-half).exp(), torch.full_like(half, nu)], dim=1)
    drawn = torch.multinomial(chances, 1, generator=generator).squeeze(1)
    outcomes = torch.eye(3)[drawn]
    share = (drawn == 2).float().mean().item()
    ties, scores = TieParameter(share), torch.zeros(12, requires_grad=True)
    assert ties.nu < 0.9 * nu  # between equals such a share of ties would need no more
    optimizer, config = torch.optim.Adam([scores], lr=0.05), build(RewardConfig, {})
    for step in range(300):
        rows = torch.arange(step * 97, step * 97 + 400) % len(pairs)
        log_nu = ties.log(torch.device("cpu"))
        loss = davidson(scores[pairs[rows, 0]], scores[pairs[rows, 1]], outcomes[rows], log_nu).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch = batch_of([], [], torch.device("cpu"))._replace(
            outcomes=outcomes[rows], weights=torch.ones(400), margins=torch.zeros(400)
        )
        ties.learn(log_nu, batch, config)
    assert ties.nu == pytest.approx(nu, rel=0.1)
    fitted = scores.detach() - scores.detach().mean()
    assert torch.allclose(fitted, strengths - strengths.mean(), atol=0.35)


def test_a_tie_parameter_that_is_given_stays():
    ties = TieParameter(0.2, given=0.5)
    assert ties.nu == 0.5
    again = TieParameter(0.4)
    again.load_state_dict(json.loads(json.dumps(TieParameter(0.2).state_dict())))
    assert again.nu == TieParameter(0.2).nu == pytest.approx(0.5)
