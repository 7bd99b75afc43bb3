import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CohereConfig,
    CohereForCausalLM,
)

from alignment.config import JobError
from alignment.data.text import load_tokenizer
from alignment.manifest import INDEX, ArtifactError, file_sha256, verify
from alignment.models.checkpoints import load_policy, load_reward, reward_from_policy, save_checkpoint
from tests.alignment.architectures import CONFIGS, write_model
from tests.tiny_models import make_tiny_policy, make_tiny_reward


@pytest.fixture
def own(tmp_path):
    make_tiny_policy(tmp_path / "own")
    return tmp_path / "own"


def test_a_checkpoint_is_an_artifact_that_transformers_loads(own):
    manifest = verify(own, file_sha256(own / "manifest.json"))
    assert manifest["kind"] == "checkpoint"
    assert {"config.json", "model.safetensors", "tokenizer.json", "card.json"} <= set(manifest["files"])
    theirs = AutoModelForCausalLM.from_pretrained(own)
    ids = torch.tensor([[3, 40, 41, 4]])
    assert torch.equal(theirs(ids).logits, load_policy(own)(ids).logits)
    assert AutoTokenizer.from_pretrained(own).chat_template


def test_the_same_weights_make_the_same_artifact(tmp_path):
    assert make_tiny_policy(tmp_path / "a", seed=3) == make_tiny_policy(tmp_path / "b", seed=3)
    assert make_tiny_policy(tmp_path / "c", seed=4) != make_tiny_policy(tmp_path / "a", seed=3)


def test_saving_replaces_the_older_checkpoint_and_leaves_nothing_else(own):
    model, tokenizer = load_policy(own), load_tokenizer(own)
    digest = save_checkpoint(model, tokenizer, own, {"stage": "again"})
    assert json.loads((own / "card.json").read_text()) == {"stage": "again"}
    verify(own, digest)
    assert [path.name for path in own.parent.iterdir()] == ["own"]


def test_head_and_embedding_stay_tied_after_loading(own):
    model = load_policy(own)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_reward_model_has_one_label_a_scaled_head_and_loads_in_transformers(tmp_path, own):
    torch.manual_seed(0)
    spread = torch.stack([reward_from_policy(own).score.weight for _ in range(30)]).std().item()
    assert spread == pytest.approx(33**-0.5, rel=0.1)
    make_tiny_reward(tmp_path / "reward", own)
    mine = load_reward(tmp_path / "reward")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    ids = torch.tensor([[3, 40, 41, 4, 50, 1], [3, 40, 4, 1, 0, 0]])
    assert theirs.config.num_labels == 1 and theirs.config.pad_token_id == 0
    assert torch.equal(theirs(ids).logits, mine(ids).logits)


def test_a_policy_is_no_reward_model(own):
    with pytest.raises((JobError, ArtifactError), match="reward"):
        load_reward(own)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_reward_model_is_no_policy_though_its_body_is(tmp_path, family):
    write_model(family, tmp_path / "policy")
    make_tiny_reward(tmp_path / "reward", tmp_path / "policy")
    with pytest.raises(JobError, match=r"is a reward model .*name a policy here"):
        load_policy(tmp_path / "reward")
    with pytest.raises(JobError, match=r"is no reward model .*name the checkpoint of the stage reward"):
        load_reward(tmp_path / "policy")


def test_weights_that_are_absent_never_begin_at_random(tmp_path):
    path = write_model("llama", tmp_path / "policy")
    weights = load_file(path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"lacks the weights lm_head\.weight"):
        load_policy(path)


@pytest.mark.parametrize("family", list(CONFIGS))
def test_a_models_directory_from_elsewhere_is_a_parent_and_its_weights_come_back(tmp_path, family):
    path = write_model(family, tmp_path / "theirs")
    theirs, policy = AutoModelForCausalLM.from_pretrained(path), load_policy(path)
    ids = torch.tensor([[3, 40, 41, 4, 50, 60]])
    assert torch.equal(theirs.eval()(ids).logits, policy(ids).logits)
    digest = save_checkpoint(policy, load_tokenizer(path), tmp_path / "ours", {})
    verify(tmp_path / "ours", digest)
    assert torch.equal(load_policy(tmp_path / "ours")(ids).logits, policy(ids).logits)


def test_large_weights_lie_in_several_files_and_come_back_whole(tmp_path, own):
    model, tokenizer = load_policy(own), load_tokenizer(own)
    digest = save_checkpoint(model, tokenizer, tmp_path / "shards", {}, shard_size="40KB")
    files = verify(tmp_path / "shards", digest)["files"]
    assert INDEX in files and len([name for name in files if name.endswith(".safetensors")]) >= 3
    ids = torch.tensor([[3, 40, 41, 4]])
    assert torch.equal(load_policy(tmp_path / "shards")(ids).logits, model(ids).logits)
    again = save_checkpoint(load_policy(tmp_path / "shards"), tokenizer, tmp_path / "whole", {})
    assert again == save_checkpoint(model, tokenizer, tmp_path / "other", {})


def test_every_file_of_large_weights_is_verified_and_needed(tmp_path, own):
    model, tokenizer = load_policy(own), load_tokenizer(own)
    digest = save_checkpoint(model, tokenizer, tmp_path / "shards", {}, shard_size="40KB")
    last = sorted((tmp_path / "shards").glob("model-*.safetensors"))[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=last.name):
        verify(tmp_path / "shards", digest)
    last.unlink()
    with pytest.raises(ArtifactError, match="which is not in the directory"):
        load_policy(tmp_path / "shards")


def test_an_index_that_points_outside_the_directory_is_refused(tmp_path, own):
    save_checkpoint(load_policy(own), load_tokenizer(own), tmp_path / "shards", {}, shard_size="40KB")
    (tmp_path / "shards" / "manifest.json").unlink()
    index = json.loads((tmp_path / "shards" / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = "../own/model.safetensors"
    (tmp_path / "shards" / INDEX).write_text(json.dumps(index))
    with pytest.raises(ArtifactError, match=r"names '\.\./own/model\.safetensors'"):
        load_policy(tmp_path / "shards")


def test_planted_pickled_weights_are_refused_and_never_opened(own):
    class Bomb:
        def __reduce__(self):
            return open, (str(own / "opened"), "w")

    (own / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ArtifactError, match="can run code"):
        load_policy(own)
    (own / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="can run code"):
        load_policy(own)
    assert not (own / "opened").exists()


def test_a_checkpoint_that_brings_code_is_refused(own):
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    with pytest.raises(ArtifactError, match="auto_map"):
        load_policy(own)


@pytest.mark.parametrize("name", ["adapter_config.json", "chat_template.jinja.bak"])
def test_a_file_laid_beside_the_listed_ones_is_refused(own, name):
    (own / name).write_text("{}")
    with pytest.raises(ArtifactError, match=f"{name} is not named in the checkpoint's manifest"):
        load_policy(own)


def test_a_policy_whose_head_is_more_than_a_product_is_refused(tmp_path, own):
    config = CohereConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, eos_token_id=1, bos_token_id=2, logit_scale=0.25,
    )  # fmt: skip
    save_checkpoint(CohereForCausalLM(config), load_tokenizer(own), tmp_path / "cohere", {})
    with pytest.raises(JobError, match="more than a matrix product"):
        load_policy(tmp_path / "cohere")


def test_a_directory_without_a_model_is_a_sentence(tmp_path):
    with pytest.raises(ArtifactError, match=r"no config\.json"):
        load_policy(tmp_path)
