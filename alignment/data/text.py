"""Text to token ids: the tokenizer, the chat template, and how a prompt and its completions are encoded and cut."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from alignment.config import JobError

TEMPLATE = Path(__file__).parents[1] / "chat.jinja"
PAD, END, SYSTEM, USER, ASSISTANT = CONTROL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")

Messages = list[dict[str, str]]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with our control tokens (ids 0 to 4) and our chat template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=TEMPLATE.read_text(),
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint directory, with an end token and a different pad token. Raises JobError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise JobError(f"cannot read a tokenizer in {path}: {error}") from error
    if tokenizer.eos_token_id is None:
        raise JobError(f"the tokenizer in {path} has no end token; set eos_token in its tokenizer_config.json")
    tokenizer.eos_token = turn_end(tokenizer) or tokenizer.eos_token
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.pad_token = _spare_token(tokenizer, path)
    tokenizer.padding_side = "right"
    return tokenizer


def turn_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """The control token with which the chat template ends an assistant's turn; empty where there is none.

    Gemma ends a text with <eos> and a turn with <end_of_turn>: whoever waits for the former hears the next turn too.
    """
    if not tokenizer.chat_template:
        return ""
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    try:
        behind = render(tokenizer, turns).rpartition("answer")[2].lstrip()
    except JobError:
        return ""  # what the template refuses is said where it is used
    return max((t for t in control_tokens(tokenizer) if behind.startswith(t)), key=len, default="")


def _spare_token(tokenizer: PreTrainedTokenizerBase, path: str | Path) -> str:
    """Padding with the end token would teach a model never to stop, so another control token has to serve.

    One without a use: Llama 3 names none, but keeps <|finetune_right_pad_id|> and reserved ones among its added tokens.
    """
    taken = (tokenizer.eos_token, tokenizer.bos_token)
    unused = [t for t in control_tokens(tokenizer) if any(word in t for word in ("pad", "reserved", "unused"))]
    spare = [t for t in [*unused, *tokenizer.all_special_tokens] if t not in taken]
    if not spare:
        raise JobError(f"the tokenizer in {path} has no pad token besides its end token; add one to it")
    return spare[0]


def defuse(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text with every spelled-out control token broken by a space, so a person cannot type a turn boundary.

    Only spaces go in and no control token holds one, so no new control token can appear.
    """
    for token in control_tokens(tokenizer):
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every token that the tokenizer would read out of a text as a sign of its own.

    The named special tokens alone are too few: Llama 3 writes its turn boundaries with tokens that have no name.
    """
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return list(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def as_messages(value: str | Messages, role: str) -> Messages:
    """A plain string becomes one turn of this role."""
    return [{"role": role, "content": value}] if isinstance(value, str) else value


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, prompt: bool = False) -> str:
    """The dialogue as the template writes it; with `prompt`, up to where the assistant begins. Raises JobError."""
    if not tokenizer.chat_template:
        raise JobError(
            "the rows are dialogues but the parent's tokenizer has no chat template; "
            "set chat_template in its tokenizer_config.json or use a parent that has one"
        )
    if not messages:
        raise JobError("a dialogue without any message cannot be read; give it at least one turn")
    try:
        safe = [{**message, "content": defuse(message["content"], tokenizer)} for message in messages]
        return tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=prompt)
    except (TemplateError, KeyError, TypeError, AttributeError) as error:
        raise JobError(f"the chat template refuses the dialogue {str(messages)[:120]}: {error}") from error


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of plain text: no control token is added, and none is read out of the text."""
    return tokenizer(defuse(text, tokenizer), add_special_tokens=False)["input_ids"]


def _encode_rendered(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: str | Messages) -> list[int]:
    """Ids of the dialogue so far and the opening of the assistant's turn. Raises JobError."""
    return _encode_rendered(tokenizer, render(tokenizer, as_messages(messages, "user"), prompt=True))


def encode_completion(
    tokenizer: PreTrainedTokenizerBase, prompt: str | Messages, completion: str | Messages
) -> list[int]:
    """Ids of the assistant's turn after `encode_prompt(prompt)`, ending in exactly one end token. Raises JobError.

    Prompt and completion are tokenised apart, so no merge reaches over their boundary.
    """
    prompt, completion = as_messages(prompt, "user"), as_messages(completion, "assistant")
    answer = added(render(tokenizer, prompt + completion), render(tokenizer, prompt, prompt=True))
    return end_once(_encode_rendered(tokenizer, answer), tokenizer.eos_token_id)


def added(whole: str, head: str) -> str:
    """What a rendered dialogue says after its head. Raises JobError where it does not begin with it."""
    if not whole.startswith(head):
        raise JobError(
            "the chat template does not write the same prompt before an answer as alone: "
            f"{head[-60:]!r} is not how {whole[: len(head)][-60:]!r} begins; use a prefix-preserving template"
        )
    return whole[len(head) :]


def demand_prefixes(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise JobError for a chat template that writes earlier turns otherwise once later ones follow.

    A policy would then be trained after prompts that it never meets again.
    """
    turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, "abcd", strict=True)]
    written = ""
    for i in (1, 3):
        head = render(tokenizer, turns[:i], prompt=True)
        added(head, written)
        written = render(tokenizer, turns[: i + 1])
        added(written, head)


def end_once(ids: list[int], eos: int) -> list[int]:
    """The ids up to and with the last end token; one is added where there is none."""
    if eos not in ids:
        return [*ids, eos]
    return ids[: len(ids) - ids[::-1].index(eos)]


def assistant_mask(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> tuple[list[int], list[int]]:
    """Ids of a whole dialogue and 1 where the assistant speaks (its end token too). Raises JobError."""
    if "{% generation %}" not in (tokenizer.chat_template or "").replace("{%-", "{%").replace("-%}", "%}"):
        ids, mask = _turns_mask(tokenizer, messages)
    else:
        safe = [{**message, "content": defuse(message["content"], tokenizer)} for message in messages]
        render(tokenizer, messages)  # for its refusals
        made = tokenizer.apply_chat_template(safe, return_dict=True, return_assistant_tokens_mask=True)
        ids, mask = list(made["input_ids"]), list(made["assistant_masks"])
    if not any(mask):
        raise JobError(f"a dialogue has no assistant turn: {str(messages)[:120]}")
    return ids, mask


def _turns_mask(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> tuple[list[int], list[int]]:
    """Without generation markers: what each assistant turn adds to the dialogue before it, up to its end token."""
    ids, mask, written = [], [], ""
    for i in [i for i, message in enumerate(messages) if message["role"] == "assistant"]:
        head, whole = render(tokenizer, messages[:i], prompt=True), render(tokenizer, messages[: i + 1])
        before, turn = (_encode_rendered(tokenizer, text) for text in (added(head, written), added(whole, head)))
        learnt = len(end_once(turn, tokenizer.eos_token_id)) if tokenizer.eos_token_id in turn else len(turn)
        ids += before + turn
        mask += [0] * len(before) + [1] * learnt + [0] * (len(turn) - learnt)
        written = whole
    return _ended(ids, mask, tokenizer.eos_token_id)


def _ended(ids: list[int], mask: list[int], eos: int) -> tuple[list[int], list[int]]:
    """Up to the last end token, which is learnt; one is added where the last turn has none."""
    if not any(mask):
        return ids, mask
    last = len(mask) - mask[::-1].index(1)
    return (ids[:last], mask[:last]) if ids[last - 1] == eos else ([*ids[:last], eos], [*mask[:last], 1])


def truncate(prompt: list[int], completion: list[int], max_length: int) -> tuple[list[int], list[int]]:
    """Both within max_length tokens: the prompt loses its beginning first, then the completion its end."""
    completion = completion[: max_length - 1]
    return _tail(prompt, max_length - len(completion)), completion


def truncate_pair(
    prompt: list[int], chosen: list[int], rejected: list[int], max_length: int
) -> tuple[list[int], list[int], list[int]] | None:
    """The same end of the prompt for both completions, which stay whole; None where the longer one does not fit."""
    room = max_length - max(len(chosen), len(rejected))
    return (_tail(prompt, room), chosen, rejected) if room >= 1 else None


def _tail(ids: list[int], length: int) -> list[int]:
    return ids[max(0, len(ids) - length) :]
