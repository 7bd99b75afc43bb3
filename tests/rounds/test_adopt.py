"""`manage.py model add`: a model from a hub or a directory becomes a parent for rounds, or is refused in a sentence."""

import json
import pickle
from io import StringIO
from pathlib import Path

import pytest
import torch
from django.conf import settings
from django.core.management import CommandError, call_command
from safetensors.torch import load_file

from alignment.manifest import verify
from labelapp.models import Round, Version
from labelapp.rounds import adopt
from labelapp.rounds.adopt import NotAdoptable, adopt_model
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project
from tests.hub import COMMIT, hub_of
from tests.rounds.material import make_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A directory as a hub has it, of each family."""
    from tests.alignment.architectures import CONFIGS, write_model

    return {family: write_model(family, tmp_path_factory.mktemp("theirs") / f"Tiny_{family}") for family in CONFIGS}


@pytest.fixture
def unloaded(monkeypatch):
    """For tests of what comes before or after the trainer's own look, which takes seconds."""
    monkeypatch.setattr(adopt, "inspect", lambda *_: None)


@pytest.fixture
def in_process(monkeypatch):
    """The trainer's own look without the seconds that a process takes to start."""
    from alignment.__main__ import main

    monkeypatch.setattr(adopt.subprocess, "run", lambda program, **_: main(program[3:]))


@pytest.fixture
def at_hub(monkeypatch):
    """Have huggingface_hub ask this address."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return lambda address: monkeypatch.setenv("HF_ENDPOINT", address)


def test_a_hubs_model_at_a_revision_becomes_a_parent_that_a_stage_trains(project, theirs, at_hub, tmp_path):
    (theirs["llama"] / "pytorch_model.bin").write_bytes(b"never fetched")
    (theirs["llama"] / "modeling.py").write_text("raise SystemExit")
    with hub_of(theirs["llama"]) as (address, asked):
        at_hub(address)
        out = StringIO()
        call_command("model", "add", "org/name@v1", "--json", stdout=out)
    for name in ("pytorch_model.bin", "modeling.py"):
        (theirs["llama"] / name).unlink()
        assert not any(path.endswith(name) for path in asked)
    version = Version.objects.get(project=project, name=json.loads(out.getvalue())["version"])
    assert version.card["source"] == {"hub": "org/name", "revision": "v1", "commit": COMMIT}
    assert (version.kind, version.state) == ("policy", "candidate") and version.name == f"name-{version.digest[:8]}"
    files = verify(version.path, version.digest)["files"]
    assert "model.safetensors" in files and not any(name.startswith(".cache") for name in files)
    assert Path(version.path).parent == settings.ARTIFACT_DIR / "models"
    assert trained(version, tmp_path)["status"] == "done"


BY_ADAPTER = {
    "lora.rank": 2, "precision": "bf16", "optimization.activation_checkpointing": "true",
    "optimization.batch_size": 4, "optimization.max_steps": 3, "optimization.learning_rate": 0.01,
}  # fmt: skip
SHORT = {
    "evaluate.max_prompts": 2, "evaluate.answers": 0, "evaluate.max_new_tokens": 4, "evaluate.bootstrap": 100,
    "audit.max_items": 4, "audit.max_new_tokens": 4, "audit.bootstrap": 100,
}  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_a_hubs_model_goes_through_a_whole_round_by_adapters_in_bf16(project, theirs, at_hub, in_process):
    with hub_of(theirs["qwen2"]) as (address, _):
        at_hub(address)
        call_command("model", "add", "org/name@main", "--project", project.slug)
    parent = Version.objects.get()
    changes = {f"{stage}.{path}": value for stage in ("reward", "preference") for path, value in BY_ADAPTER.items()}
    words = [f"--set={path}={value}" for path, value in (SHORT | changes).items()]
    make_snapshot(project)
    call_command("launch", project.slug, "--parent", parent.name, *words, stdout=StringIO())
    round = Round.objects.get()
    supervise_round(round.pk)

    round.refresh_from_db()
    assert (round.error, round.state) == ("", "done")
    for kind, stage in (("reward", "reward"), ("policy", "preference")):
        version = round.versions.get(kind=kind)
        card = json.loads((Path(version.path) / "card.json").read_text())
        assert version.parent == parent and (card["stage"], card["config"]["precision"]) == (stage, "bf16")
        assert card["config"]["lora"]["rank"] == 2 and (Path(version.path) / "adapter").is_dir()
    before, after = (load_file(Path(v.path) / "model.safetensors") for v in (parent, round.versions.get(kind="policy")))
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == {name for name, weight in before.items() if name.endswith("_proj.weight")}  # merged, in fp32
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert round.versions.get(kind="policy").audits.count() == 2


def trained(version, folder) -> dict:
    """The result of a few steps of supervised fine-tuning from this version."""
    from alignment.__main__ import main

    (folder / "rows.jsonl").write_text('{"prompt": "Hello", "completion": "You can."}\n' * 4)
    config = {"rows": str(folder / "rows.jsonl"), "lora": {"rank": 2}, "optimization": {"batch_size": 2}}
    inputs = {"parent": {"path": version.path, "sha256": version.digest}}
    job = {"stage": "sft", "inputs": inputs, "config": config, "output": str(folder / "out")}
    (folder / "job.json").write_text(json.dumps(job))
    main(["sft", str(folder / "job.json")])
    return json.loads((folder / "out" / "result.json").read_text())


def test_a_directory_here_is_copied_without_what_is_not_needed(project, theirs, unloaded):
    (theirs["gpt2"] / "training_args.bin").write_bytes(pickle.dumps({}))
    (theirs["gpt2"] / "README.md").write_text("hello")
    version = adopt_model(project=project, source=str(theirs["gpt2"]))
    (theirs["gpt2"] / "training_args.bin").unlink()
    files = set(verify(version.path, version.digest)["files"])
    assert {"config.json", "model.safetensors", "tokenizer.json", "card.json"} <= files
    assert not {"training_args.bin", "README.md"} & files
    assert version.card["source"] == {"directory": "Tiny_gpt2"} and version.name.startswith("tiny-gpt2-")


def test_adding_a_model_again_finds_the_same_version(project, theirs, unloaded):
    first = adopt_model(project=project, source=str(theirs["qwen2"]))
    assert adopt_model(project=project, source=str(theirs["qwen2"])) == first
    assert not list((settings.ARTIFACT_DIR / "models").glob("draft-*"))


def test_a_checkpoint_of_ours_keeps_its_digest(project, tmp_path, unloaded):
    from tests.tiny_models import make_tiny_policy

    digest = make_tiny_policy(tmp_path / "own", seed=5)
    version = adopt_model(project=project, source=str(tmp_path / "own"))
    assert version.digest == digest and version.card["seed"] == 5
    (tmp_path / "own" / "config.json").write_text("{}")
    with pytest.raises(NotAdoptable, match="has SHA-256"):
        adopt_model(project=project, source=str(tmp_path / "own"))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("org/name@v9", "org/name has no revision 'v9': name a branch, a tag or a commit."),
        ("org/other@main", "The hub has no model org/other"),
        ("org/name", "org/name is neither a directory here nor a hub's org/name@revision."),
    ],
)
def test_what_a_hub_does_not_have_is_a_sentence(project, theirs, at_hub, source, sentence):
    with hub_of(theirs["llama"]) as (address, _):
        at_hub(address)
        with pytest.raises(CommandError) as refusal:
            call_command("model", "add", source)
    assert str(refusal.value).startswith(sentence)


def test_without_a_network_the_remedy_is_a_path(project, at_hub):
    at_hub("http://127.0.0.1:9")
    with pytest.raises(NotAdoptable, match=r"could not be fetched: .*\. Copy its files here and name the path\."):
        adopt_model(project=project, source="org/name@main")


def test_a_repository_of_pickles_is_refused_before_anything_is_fetched(project, theirs, at_hub, tmp_path):
    (tmp_path / "config.json").write_text((theirs["llama"] / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with hub_of(tmp_path) as (address, asked):
        at_hub(address)
        with pytest.raises(NotAdoptable, match="only pickled weights, which can run code"):
            adopt_model(project=project, source="org/name@main")
    assert not any("resolve" in path for path in asked)
    with pytest.raises(NotAdoptable, match="only pickled weights"):
        adopt_model(project=project, source=str(tmp_path))


def changed_config(theirs, tmp_path, **changes) -> str:
    from shutil import copytree

    copytree(theirs["llama"], tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, **changes}))
    return str(tmp_path / "model")


def test_a_model_that_brings_code_is_refused(project, theirs, tmp_path):
    source = changed_config(theirs, tmp_path, auto_map={"AutoModelForCausalLM": "modeling.Evil"})
    with pytest.raises(NotAdoptable, match="auto_map"):
        adopt_model(project=project, source=source)
    assert not Version.objects.filter(project=project).exists()


def test_what_the_trainer_cannot_use_is_refused_in_its_words(project, theirs, tmp_path, in_process):
    source = changed_config(theirs, tmp_path, model_type="no-such-family")
    with pytest.raises(NotAdoptable, match=f"{source} cannot be used here: cannot load a model"):
        adopt_model(project=project, source=source)
    assert not Version.objects.filter(project=project).exists()


def test_a_model_without_a_chat_template_takes_one_from_a_file(project, theirs, tmp_path, in_process):
    from shutil import copytree

    source = copytree(theirs["llama"], tmp_path / "model")
    template = (source / "chat_template.jinja").rename(tmp_path / "template.jinja")
    with pytest.raises(NotAdoptable, match="set chat_template"):
        adopt_model(project=project, source=str(source))
    version = adopt_model(project=project, source=str(source), template=str(template))
    assert "chat_template.jinja" in verify(version.path, version.digest)["files"]
    with pytest.raises(NotAdoptable, match="cannot be read"):
        adopt_model(project=project, source=str(source), template=str(tmp_path / "absent"))


def test_the_project_must_be_named_where_there_are_several(project, theirs):
    make_project()
    with pytest.raises(CommandError, match="Name the project with --project"):
        call_command("model", "add", str(theirs["llama"]))
