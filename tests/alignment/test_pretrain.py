import gzip
import math

import pytest
import torch

from alignment.config import Input
from alignment.data.documents import encode_documents, positions_of, read_documents
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy
from alignment.pretrain import block_loss, blocks_of, stream_bits
from tests.alignment.snapshots import make_job, metrics_of
from tests.alignment.stages import run

SENTENCES = ["Books are good for you.", "Children ask a teacher.", "People think while they read.", "Sure, that is!"]
TINY = {"vocabulary": 300, "width": 32, "depth": 2, "heads": 4, "context": 32}


@pytest.fixture
def text(tmp_path):
    documents = [f"{SENTENCES[i % 4]} {SENTENCES[(i * 3 + 1) % 4]}" for i in range(400)]
    with gzip.open(tmp_path / "text.txt.gz", "wt") as stream:
        stream.write("\n\n".join(documents))
    (tmp_path / "held-out.txt").write_text("\n\n".join(documents[7:40:3]))
    return tmp_path


def job_for(folder, output, **changes):
    plan = {"learning_rate": 1e-2, "batch_size": 8, "max_steps": 40, "epochs": 9, "checkpoint_every": 20}
    texts = {"text": [str(folder / "text.txt.gz")], "held_out_text": [str(folder / "held-out.txt")]}
    changed = {**changes, "optimization": {**plan, **changes.get("optimization", {})}}
    return make_job("pretrain", folder / output, {**TINY, **texts, **changed})


def test_a_policy_made_from_text_predicts_text_of_its_kind(text):
    job = job_for(text, "out")
    _, result = run(job, text)
    rows = metrics_of(job.output)
    assert rows[0]["loss_nats"] > 5 and rows[-1]["loss_nats"] < 1.5
    assert [row["step"] for row in rows if "held_out_loss_nats" in row] == [8, 16, 24, 32, 40]
    (metric,) = result["metrics"]
    assert metric["key"] == "bits_per_byte:held-out.txt" and metric["value"] < 1.5
    assert set(metric["baselines"]) == {"byte_5gram", "token_5gram"}
    tokenizer = load_tokenizer(text / "out" / "checkpoint")
    assert len(tokenizer) <= 300 and tokenizer.chat_template


def test_the_same_job_makes_the_same_artifact_and_another_seed_another(text):
    short = {"optimization": {"max_steps": 3}}
    digests = [run(job_for(text, name, **short), text)[1]["checkpoint"]["sha256"] for name in ("a", "b")]
    assert digests[0] == digests[1]


def test_a_parent_is_continued_with_its_own_tokenizer(text, parent):
    job = job_for(text, "out", optimization={"max_steps": 2})
    job = type(job)(**{**vars(job), "inputs": {"parent": parent}})
    run(job, text)
    made, before = load_tokenizer(text / "out" / "checkpoint"), load_tokenizer(parent.path)
    assert made.get_vocab() == before.get_vocab()
    assert metrics_of(job.output)[1]["loss_nats"] < metrics_of(job.output)[0]["loss_nats"] + 0.5


def test_a_blank_line_parts_documents_and_each_ends_in_an_end_token(text, tokenizer):
    (text / "t.txt").write_text("one\ntwo\n\n\n\nthree <|user|>\n")
    documents = read_documents(text / "t.txt")
    assert documents == ["one\ntwo", "three <|user|>"]
    ids = encode_documents(tokenizer, documents).tolist()
    assert [i for i in ids if i < 5] == [1, 1, 1] and ids[0] == ids[-1] == 1


def test_blocks_overlap_by_one_token_and_move_between_epochs():
    tokens = torch.arange(100)
    blocks = blocks_of(tokens, 10, seed=0, epoch=0)
    assert blocks.shape == (8, 11)
    assert (blocks[1:, 0] == blocks[:-1, -1]).all()
    starts = {int(blocks_of(tokens, 10, seed=0, epoch=e)[0, 0]) for e in range(8)}
    assert len(starts) > 2 and max(starts) < 10


def test_bits_of_a_stream_count_every_token_once(policy):
    """A context longer than the stream is one plain pass; longer streams only ever add context to a token."""
    tokens = torch.randint(5, 300, (200,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ids = tokens.long()[None]
        expected = policy(ids, labels=ids).loss.item() * 199 / math.log(2)
    assert stream_bits(policy, tokens) == pytest.approx(expected, rel=1e-5)
    policy.config.max_position_embeddings = 64
    assert stream_bits(policy, tokens) == pytest.approx(expected, rel=0.02)


def test_positions_begin_again_at_each_end_token():
    ids = torch.tensor([[1, 5, 6, 1, 1, 7], [8, 9, 1, 5, 6, 7]])
    assert positions_of(ids, end=1).tolist() == [[0, 1, 2, 0, 0, 1], [0, 1, 0, 1, 2, 3]]


def test_a_document_of_its_own_is_predicted_as_if_it_were_alone(policy):
    """The loss of a block with two documents is the sum of theirs; plain blocks let the second see the first."""
    first, second = [1, 9, 8, 7, 6, 5], [1, 20, 21, 22, 23, 24, 1]
    apart = sum(block_loss(policy, torch.tensor([part])).item() for part in (first + [1], second))
    block = torch.tensor([first + second])
    assert block_loss(policy, block, end=1).item() == pytest.approx(apart, abs=1e-4)
    assert block_loss(policy, block).item() != pytest.approx(apart, abs=1e-2)


def test_blocks_of_separate_documents_train_too(text):
    job = job_for(text, "out", separate_documents=True, optimization={"max_steps": 12, "epochs": 9})
    run(job, text)
    rows = metrics_of(job.output)
    assert rows[-1]["loss_nats"] < rows[0]["loss_nats"] - 1


def test_bf16_attention_of_our_own_equals_sdpa_in_fp32(parent):
    policy, blockwise = load_policy(parent.path), load_policy(parent.path)
    blockwise.set_attn_implementation("blockwise")
    ids = torch.randint(5, 300, (2, 256), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(policy(ids).logits, blockwise(ids).logits, atol=1e-5)
    padded = torch.tensor([[0] * 5 + [1] * 251] * 2)
    assert torch.allclose(policy(ids, padded).logits[:, 5:], blockwise(ids, padded).logits[:, 5:], atol=1e-5)
    restart = torch.cat([torch.arange(100), torch.arange(156)]).expand(2, -1)  # two texts in a row
    packed = blockwise(ids, position_ids=restart, use_cache=False).logits[:, 100:]
    apart = policy(ids[:, 100:]).logits
    assert torch.allclose(packed, apart, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": ["absent.txt"]}, "cannot read the text"),
        ({"text": []}, "name at least one text file"),
        ({"heads": 5}, "must divide the width"),
        ({"context": 8000}, "too few"),
        ({"optimization": {"batch_size": 8000}}, "fewer blocks"),
    ],
)
def test_a_job_that_cannot_be_done_says_why(text, changes, reason):
    exit_code, result = run(job_for(text, "out", **changes), text)
    assert exit_code == 64 and reason in result["reason"]


def test_a_changed_parent_is_refused_by_its_digest(text, parent):
    job = job_for(text, "out")
    wrong = Input(path=parent.path, sha256="0" * 64)
    exit_code, result = run(type(job)(**{**vars(job), "inputs": {"parent": wrong}}), text)
    assert exit_code == 64 and "SHA-256" in result["reason"]


def test_how_a_step_is_cut_into_parts_changes_neither_loss_nor_gradient(text):
    found = []
    for size in (8, 3, 1):
        job = job_for(text, f"cut-{size}", micro_batch=size, optimization={"max_steps": 2, "learning_rate": 1e-4})
        run(job, text)
        found.append([(line["loss_nats"], line["gradient_norm"]) for line in metrics_of(job.output)])
    for lines in found[1:]:
        assert [pytest.approx(line, rel=1e-5) for line in found[0]] == lines
