"""A loaded version in this process: what it says equals plain generation, and what cannot be trusted does not load."""

import json
from dataclasses import asdict

import pytest

from labelapp.serving.protocol import Sampling
from tests.tiny_models import make_tiny_policy

torch = pytest.importorskip("torch")

PROMPTS = ["Books are good because people think", "He said", "What is the best way to learn?"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def loaded(place):
    from labelapp.serving.engine import Loaded

    version = Loaded(str(place / "policy"), make_tiny_policy(place / "policy", seed=3))
    with torch.no_grad():
        # With fresh weights the embedding outshouts the layers and one token repeats for ever.
        for weight in version.model.model.layers.parameters():
            weight.mul_(20 if weight.ndim > 1 else 1)
    return version


def answer(loaded, *prompts: str, **sampling):
    """The rows after all of them have finished, and their events."""
    from labelapp.serving.engine import rows_for

    events = []
    ask = {"prompts": [{"text": p} for p in prompts], "n": 1, "sampling": asdict(Sampling(**sampling))}
    rows = rows_for(loaded, ask, events.append)
    loaded.admit(rows)
    while not all(row.gone for row in rows):
        loaded.step()
    return rows, events


def test_greedy_rows_together_equal_generate_alone(loaded):
    rows, _ = answer(loaded, *PROMPTS, temperature=0, max_tokens=24)

    for row in rows:
        alone = loaded.model.generate(torch.tensor([row.prompt]), max_new_tokens=24, do_sample=False)
        assert row.ids == alone[0, len(row.prompt) :].tolist()
    assert len({tuple(row.ids) for row in rows}) == 3 and len(set(rows[0].ids)) > 3


def test_rows_that_join_and_leave_disturb_nobody(loaded):
    from labelapp.serving.engine import rows_for

    (calm,), _ = answer(loaded, PROMPTS[0], temperature=0, max_tokens=30)
    ask = {"n": 1, "sampling": asdict(Sampling(temperature=0, max_tokens=30))}
    watched, other, late = (
        rows_for(loaded, {**ask, "prompts": [{"text": p}]}, lambda event: None)[0] for p in PROMPTS
    )
    loaded.admit([watched, other])
    for step in range(30):
        if step == 4:
            other.cancelled = True
        if step == 8:
            loaded.admit([late])
        loaded.step()

    assert watched.ids == calm.ids
    assert len(other.ids) == 4 and len(late.ids) == 22


def test_an_echo_is_scored_as_the_model_scores_it(loaded):
    _, events = answer(loaded, PROMPTS[0], max_tokens=0, echo=True, logprobs=2)
    ids = loaded.encode({"text": PROMPTS[0]})
    with torch.no_grad():
        scores = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)

    expected = [scores[place, token].item() for place, token in enumerate(ids[1:])]
    assert [entry["logprob"] for entry in events[0]["logprobs"][1:]] == pytest.approx(expected, abs=1e-5)


def test_two_loads_of_the_same_bytes_sing_the_same(place):
    from labelapp.serving.engine import Loaded

    digest = make_tiny_policy(place / "canary", seed=4)

    assert Loaded(str(place / "canary"), digest).canary == Loaded(str(place / "canary"), digest).canary


def test_a_model_whose_logits_are_not_finite_is_not_servable(place):
    from safetensors.torch import load_file, save_file

    from alignment.manifest import write_manifest
    from labelapp.serving.engine import Loaded, NotServable

    make_tiny_policy(place / "nan", seed=5)
    weights = load_file(place / "nan" / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, place / "nan" / "model.safetensors", metadata={"format": "pt"})
    digest = write_manifest(place / "nan", kind="checkpoint")

    with pytest.raises(NotServable, match="canary"):
        Loaded(str(place / "nan"), digest)


def test_code_in_a_checkpoint_is_not_servable(place):
    from alignment.manifest import write_manifest
    from labelapp.serving.engine import Loaded, NotServable

    make_tiny_policy(place / "code", seed=6)
    config = json.loads((place / "code" / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (place / "code" / "config.json").write_text(json.dumps(config))
    digest = write_manifest(place / "code", kind="checkpoint")

    with pytest.raises(NotServable, match="auto_map"):
        Loaded(str(place / "code"), digest)
