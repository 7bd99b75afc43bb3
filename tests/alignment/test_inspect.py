import pytest

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, Input
from alignment.models.checkpoints import load_policy, save_checkpoint
from tests.alignment.architectures import CONFIGS, write_model
from tests.alignment.snapshots import make_job
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_reward, tiny_tokenizer


def look(tmp_path, path, kind="policy"):
    return run(make_job("inspect", tmp_path / "out", {"kind": kind}, model=Input(str(path))), tmp_path)


@pytest.mark.parametrize("family", list(CONFIGS))
def test_a_policy_of_any_family_passes_and_tells_its_sizes(tmp_path, family):
    exit_code, result = look(tmp_path, write_model(family, tmp_path / "model"))
    assert exit_code == EXIT_DONE and result["checkpoint"] is None
    sizes = {metric["key"]: metric["value"] for metric in result["metrics"]}
    assert sizes["context"] == 256 and 300 <= sizes["vocabulary"] <= 301  # Qwen's brings a token of its own
    assert sizes["parameters"] == load_policy(tmp_path / "model").num_parameters()


def test_a_reward_model_passes_as_one_and_not_as_a_policy(tmp_path, tiny_policy):
    make_tiny_reward(tmp_path / "reward", tiny_policy[0])
    assert look(tmp_path, tmp_path / "reward", "reward")[0] == EXIT_DONE
    exit_code, result = look(tmp_path, tmp_path / "reward")
    assert exit_code == EXIT_BAD_INPUT and "is a reward model" in result["reason"]


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path, policy):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    save_checkpoint(policy, tokenizer, tmp_path / "model", {})
    exit_code, result = look(tmp_path, tmp_path / "model")
    assert exit_code == EXIT_BAD_INPUT and "has 301 tokens and the model 300" in result["reason"]
