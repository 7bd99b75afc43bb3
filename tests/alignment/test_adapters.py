import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel

from alignment import loop
from alignment.config import EXIT_BAD_INPUT, JobError, Lora, Optimization
from alignment.manifest import verify
from alignment.models.adapters import adapted_layers, attach, merge, without
from alignment.models.checkpoints import load_policy, load_reward, reward_from_policy, save_checkpoint
from alignment.models.logprob import completion_logprobs
from alignment.models.packing import keeps_texts_apart
from alignment.models.precision import prepare_for_training
from alignment.sampling.decode import sample
from tests.alignment.snapshots import make_job, metrics_of
from tests.alignment.stages import run

IDS = torch.randint(5, 300, (2, 24), generator=torch.Generator().manual_seed(0))
WHOLE = torch.ones_like(IDS, dtype=torch.bool)


def gpt2() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=1,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(params=["llama", "gpt2"])
def model(request, policy):
    return policy if request.param == "llama" else gpt2()


def disturb(model, seed=1):
    """An adapter that has learnt something; the B matrices begin at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_a_fresh_adapter_says_what_the_model_said_and_a_trained_one_does_not(model):
    before = logits(model)
    assert torch.equal(logits(attach(model, Lora(rank=4), seed=0)), before)
    assert (logits(disturb(model)) - before).abs().max() > 1e-2


def test_the_model_without_its_adapter_is_the_reference_and_trains_on_afterwards(model):
    before = logits(model)
    disturb(attach(model, Lora(rank=4), seed=0))
    trained, names = logits(model), {n for n, p in model.named_parameters() if p.requires_grad}
    with without(model):
        assert torch.equal(logits(model), before)
        reference = completion_logprobs(model, IDS, WHOLE, WHOLE)
    assert torch.equal(logits(model), trained)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == names
    assert not torch.allclose(completion_logprobs(model, IDS, WHOLE, WHOLE), reference, atol=1e-3)


def test_a_model_without_an_adapter_is_not_its_own_reference(policy):
    with pytest.raises(ValueError, match="keep a frozen copy"), without(policy):
        pass


def test_only_adapters_are_trained_and_a_reward_models_head(model, parent):
    attach(model, Lora(rank=4, targets="all-linear"), seed=0)
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    reward = attach(reward_from_policy(parent.path), Lora(rank=4), seed=0)
    others = [name for name, p in reward.named_parameters() if p.requires_grad and "lora_" not in name]
    assert others == ["score.weight"]


def test_the_seed_decides_the_adapter_and_leaves_the_stages_own_draws_alone(parent):
    def first(seed):
        torch.manual_seed(7)
        model = attach(load_policy(parent.path), Lora(rank=4), seed)
        return adapted_layers(model)[0][1].lora_A["default"].weight, torch.rand(())

    (a, drawn), (b, again), (c, _) = first(0), first(0), first(1)
    assert torch.equal(a, b) and not torch.equal(a, c) and drawn == again


def test_targets_are_named_by_the_end_of_a_layers_name(policy):
    attach(policy, Lora(rank=4, targets=["q_proj", "v_proj"]), seed=0)
    assert {name.rpartition(".")[2] for name, _ in adapted_layers(policy)} == {"q_proj", "v_proj"}


def test_an_unknown_target_is_refused_with_the_names_there_are(policy):
    with pytest.raises(JobError, match="'c_attn', which the model has not; its layers are down_proj, gate_proj"):
        attach(policy, Lora(targets=["c_attn"]), seed=0)


def test_merging_leaves_a_plain_model_that_says_the_same(model):
    disturb(attach(model, Lora(rank=4, alpha=16.0), seed=0))
    expected, kind = logits(model), type(model)
    merge(model)
    assert not adapted_layers(model) and type(model) is kind and not hasattr(model, "peft_config")
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_checkpoint_holds_the_merged_model_and_the_adapter_beside_it(tmp_path, parent, tokenizer):
    model = disturb(attach(load_policy(parent.path), Lora(rank=4), seed=0))
    expected = logits(model)
    digest = save_checkpoint(model, tokenizer, tmp_path / "made", {})
    assert "adapter/adapter_model.safetensors" in verify(tmp_path / "made", digest)["files"]
    assert torch.allclose(logits(load_policy(tmp_path / "made")), expected, atol=1e-5)
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "made")), expected, atol=1e-5)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(parent.path), tmp_path / "made" / "adapter")
    assert torch.allclose(logits(theirs), expected, atol=1e-5)


def test_a_reward_models_adapter_brings_its_head(tmp_path, parent, tokenizer):
    model = disturb(attach(reward_from_policy(parent.path), Lora(rank=4), seed=0))
    model.config.pad_token_id = 0
    expected = logits(model)
    save_checkpoint(model, tokenizer, tmp_path / "made", {})
    assert torch.allclose(logits(load_reward(tmp_path / "made")), expected, atol=1e-5)
    config = json.loads((tmp_path / "made" / "adapter" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["score"] and config["target_modules"] == sorted(config["target_modules"])
    body = AutoModelForSequenceClassification.from_pretrained(parent.path, num_labels=1, pad_token_id=0)
    theirs = PeftModel.from_pretrained(body, tmp_path / "made" / "adapter")
    assert torch.allclose(logits(theirs), expected, atol=1e-5)


def test_a_policy_with_an_adapter_samples_from_it(policy, tokenizer):
    def drawn(model):
        (made,) = sample(model, tokenizer, [[3, 40, 41, 4]], seeds=[1], max_new_tokens=12)
        return made

    before = drawn(policy)
    attach(policy, Lora(rank=4, dropout=0.5), seed=0)
    policy.activation_checkpointing_enable()
    policy.train()
    assert drawn(policy) == before and policy.training  # neither dropout nor a lost cache
    found = drawn(disturb(policy))
    assert found.ids != before.ids
    ids = torch.tensor([[3, 40, 41, 4, *found.ids]])
    answer = torch.arange(ids.shape[1])[None] >= 4
    logprobs = completion_logprobs(policy.eval(), ids, torch.ones_like(answer), answer)[0, 3:]
    assert torch.allclose(logprobs, torch.tensor(found.logprobs), atol=1e-4)


@pytest.mark.filterwarnings("error::FutureWarning")  # what the next transformers drops
@pytest.mark.parametrize("lora", [None, Lora(rank=4, dropout=0.3)])
def test_layers_that_run_again_give_the_same_gradients(tmp_path, parent, lora):
    def gradients(activation_checkpointing):
        plan = Optimization(activation_checkpointing=activation_checkpointing)
        model = load_policy(parent.path)
        config = SimpleNamespace(lora=lora, optimization=plan, precision="fp32")
        prepare_for_training(model, config, make_job("sft", tmp_path, {}))
        disturb(model).train()
        keeps_texts_apart(model)  # asked once a model: not what is counted here
        torch.manual_seed(5)
        calls = []
        model.model.layers[0].input_layernorm.register_forward_pre_hook(lambda *_: calls.append(1))
        completion_logprobs(model, IDS, WHOLE, WHOLE).sum().backward()
        return len(calls), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])

    (once, plain), (twice, again) = gradients(False), gradients(True)
    assert (once, twice) == (1, 2)
    assert torch.equal(plain, again)


NAMES = ["books", "uniforms", "children", "teacher", "television", "people", "school", "learn"]


@pytest.fixture
def config(tmp_path):
    rows = [{"prompt": f"Argue that {name} help you.", "completion": f"You can help {name}!"} for name in NAMES] * 4
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = {"learning_rate": 1e-2, "batch_size": 4, "epochs": 2, "checkpoint_every": 7}
    lora = {"rank": 4, "dropout": 0.2}
    return {"rows": str(tmp_path / "rows.jsonl"), "lora": lora, "optimization": plan}


def test_fine_tuning_by_an_adapter_learns_and_leaves_a_plain_checkpoint(tmp_path, parent, config):
    job = make_job("sft", tmp_path / "out", config, parent=parent)
    _, result = run(job, tmp_path)
    losses = [row["loss_nats"] for row in metrics_of(job.output)]
    assert losses[-1] < losses[0] - 0.1
    made, before = load_policy(result["checkpoint"]["path"]), load_policy(parent.path)
    assert torch.equal(made.get_input_embeddings().weight, before.get_input_embeddings().weight)
    assert not torch.equal(made.model.layers[0].self_attn.q_proj.weight, before.model.layers[0].self_attn.q_proj.weight)
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert card["config"]["lora"] == {"rank": 4, "alpha": 32.0, "dropout": 0.2, "targets": "all-linear"}


class Cut(BaseException):
    """The end of a process that gets no chance to say anything."""


def test_a_cut_run_with_a_dropping_adapter_ends_in_the_artifact_of_the_unbroken_run(
    tmp_path, parent, config, monkeypatch
):
    config["optimization"]["activation_checkpointing"] = True
    _, expected = run(make_job("sft", tmp_path / "whole", config, parent=parent), tmp_path)
    left, take = [9], loop.clipped_step

    def cut(*args, **how):
        left[0] -= 1
        if not left[0]:
            raise Cut
        return take(*args, **how)

    job = make_job("sft", tmp_path / "cut", config, parent=parent)
    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(loop, "clipped_step", cut)
        run(job, tmp_path)
    torch.manual_seed(99)
    again = replace(make_job("sft", tmp_path / "again", config, parent=parent), resume_from=job.output)
    _, result = run(again, tmp_path)
    assert metrics_of(again.output)[0]["step"] == 8
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"]


@pytest.mark.parametrize(
    ("lora", "sentence"),
    [
        ({"rank": 0}, "lora.rank is 0"),
        ({"targets": "q_proj"}, "lora.targets is 'q_proj'"),
        ({"dropout": 1.0}, "lora.dropout is 1.0"),
        ({"depth": 2}, "Lora has no field 'depth'"),
        ({"targets": ["query"]}, "names 'query', which the model has not"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(tmp_path, parent, config, lora, sentence):
    job = make_job("sft", tmp_path / "out", {**config, "lora": lora}, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT and sentence in result["reason"]
