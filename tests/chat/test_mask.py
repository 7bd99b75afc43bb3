"""What a model says of itself is taken out, however it is spelled and however it is cut into pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelapp.chat.mask import MAKER, MODEL, masker, own_names

OWN = own_names(["policy-r12-3fa9c1d2", "Big Blue", "meta/llama-9"])
SAID = {
    "I am Claude, made by Anthropic.": "I am [model], made by [maker].",
    "I'm ChatGPT, a large language model trained by OpenAI.": "I'm [model], a large language model trained by [maker].",
    "I am Claude 3.5 Sonnet by Anthropic": "I am [model] by [maker]",
    "I am GPT-4o-mini-2024, yes": "I am [model], yes",
    "My name is G e m i n i Pro, built by Google.": "My name is [model], built by [maker].",
    "I am open ai's chat gpt": "I am [maker]'s [model]",
    "OPENAI Openai open-ai": "[maker] [maker] [maker]",
    "As an AI developed by Microsoft, I cannot": "As an AI developed by [maker], I cannot",
    "I am Qwen2.5-7B-Instruct by Alibaba Cloud": "I am [model] by [maker]",
    "**I am Claude**": "**I am [model]**",
    "Claude here! How can I help?": "[model] here! How can I help?",
    "我是Claude，由Anthropic开发。": "我是[model]，由[maker]开发。",
    "我叫通义千问,阿里云研发": "我叫[model],[maker]研发",
    "谷歌开发的模型": "[maker]开发的模型",
    "Я Клод, создан компанией Anthropic.": "Я [model], создан компанией [maker].",
    "저는 클로드입니다.": "저는 [model]입니다.",
    "ich bin Gemini, entwickelt von Google": "ich bin [model], entwickelt von [maker]",
    "Soy Gemini, creado por Google": "Soy [model], creado por [maker]",
    "Ｉ am Ｃｌａｕｄｅ": "Ｉ am [model]",
    "I am Cl\u200baude": "I am [model]",
    "I am policy-r12-3fa9c1d2 and BIG BLUE": "I am [model] and [model]",
}
UNTOUCHED = [
    "Claude Monet painted lilies.",
    "Google it, or ask a librarian.",
    "Llamas live in Peru; a llama spits.",
    "I met a man who googled a metaphor.",
    "Je pense que Google est grand.",
    "I am 3. Claude Debussy wrote La Mer.",
    "She was born in June, so she is a Gemini.",
    "The phi coefficient is called the mean square contingency.",
    "",
]


@pytest.mark.parametrize("text", SAID)
def test_names_are_masked_in_any_language_case_and_spacing(text):
    assert masker(OWN).masked(text) == SAID[text]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_words_that_only_look_like_names_stay(text):
    assert masker(OWN).masked(text) == text


def streamed(text: str, cuts: list[int]) -> list[str]:
    """What is shown after each piece, and at the end."""
    names, shown, place, states = masker(OWN), "", 0, []
    for end in [*sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]:
        settled = len(text) if end == len(text) else names.settled(text[:end], place)
        shown += names.masked(text[:end], place, settled)
        place = settled
        states.append(shown)
    return states


@pytest.mark.parametrize("text", [*SAID, *UNTOUCHED])
def test_a_text_in_pieces_of_any_size_is_masked_like_the_whole(text):
    for size in range(1, len(text) + 1):
        assert streamed(text, list(range(size, len(text), size)))[-1] == masker(OWN).masked(text)


words = st.sampled_from(
    ["I am ", "Claude", " 3.5", " Son", "net", "Open", " AI", "-", "Chat", "GPT", ". ", "made by ", "Google", "here",
     "policy-r12", "-3fa9c1d2", "Big ", "Blue", "x", " ", "\n", "我是", "阿里", "云", "Кло", "д", "M", "eta", "G e m"]
)  # fmt: skip


@given(st.lists(words, max_size=14), st.lists(st.integers(0, 200), max_size=8))
def test_whatever_is_said_and_however_it_is_cut_nothing_shown_is_taken_back(parts, cuts):
    text = "".join(parts)
    states = streamed(text, cuts)
    assert states[-1] == masker(OWN).masked(text)
    assert all(later.startswith(earlier) for earlier, later in pairwise(states))
    for name in ("OpenAI", "ChatGPT", "policy-r12-3fa9c1d2", "Big Blue"):
        assert not any(f" {name} " in f" {state} " for state in states)


def test_the_masks_themselves_say_nothing():
    assert masker(OWN).masked(f"I am {MODEL} by {MAKER}") == f"I am {MODEL} by {MAKER}"
