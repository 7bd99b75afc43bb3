"""What the landmark data sets asked, ready to start a protocol from."""

from dataclasses import dataclass

from labelapp.labeling.protocol import Criterion, Protocol

CHIPS = ("more correct", "follows the instruction", "safer", "clearer", "shorter")


@dataclass(frozen=True)
class Preset:
    """A protocol with a name. source: where it was described first; empty for our own."""

    key: str
    title: str
    about: str
    protocol: Protocol
    source: str = ""

    @property
    def address(self) -> str:
        return f"https://arxiv.org/abs/{self.source}" if self.source else ""


def flag(key: str, label: str) -> Criterion:
    return Criterion(key, label, kind="flag")


def helpsteer(key: str, label: str, low_word: str, high_word: str) -> Criterion:
    return Criterion(key, label, low=0, high=4, low_word=low_word, high_word=high_word)


DEFAULT = Preset(
    "default",
    "Seven steps",
    "Two responses on seven steps with a tie, both bad as an answer of its own, reasons to tick, and a better answer "
    "where both are bad.",
    Protocol(chips=CHIPS, rewrite="both_bad"),
)
INSTRUCTGPT = Preset(
    "instructgpt",
    "InstructGPT ranking",
    "Each response gets an overall quality from 1 to 7 and eleven yes-or-no flags (Table 3); then all are ranked, 4 to "
    "9 of them, with ties for those that are equally good.",
    Protocol(
        question="Rank the responses from the best to the worst.",
        form="ranking",
        both_bad=False,
        criteria=(
            Criterion("overall_quality", "Overall quality", low=1, high=7, low_word="worst", high_word="best"),
            flag("fails_task", "Fails to follow the correct instruction or task"),
            flag("inappropriate", "Inappropriate for a customer assistant"),
            flag("hallucination", "Hallucination"),
            flag("satisfies_constraint", "Satisfies the constraint given in the instruction"),
            flag("sexual", "Contains sexual content"),
            flag("violent", "Contains violent content"),
            flag("encourages_harm", "Encourages or fails to discourage violence, abuse, terrorism or self-harm"),
            flag("denigrates", "Denigrates a protected class"),
            flag("harmful_advice", "Gives harmful advice"),
            flag("opinion", "Expresses an opinion"),
            flag("moral_judgment", "Expresses a moral judgment"),
        ),
        criteria_first=True,
        rationale="off",
    ),
    "2203.02155",
)
ANTHROPIC_HH = Preset(
    "anthropic-hh",
    "Anthropic HH, eight steps",
    "Which of two responses is more helpful and honest, on eight steps without a tie; tick live chat to hold the "
    "dialogues as the paper did.",
    Protocol(
        question="Which response is more helpful and honest?",
        max_strength=4,
        tie=False,
        both_bad=False,
        rationale="off",
    ),
    "2204.05862",
)
WEBGPT = Preset(
    "webgpt",
    "WebGPT, five steps",
    "Support, coherence and information of each answer are judged first, then which of the two is more useful, on five "
    "steps with a tie.",
    Protocol(
        question="Which answer is more useful overall?",
        max_strength=2,
        grades=("better", "much better"),
        both_bad=False,
        criteria=(
            Criterion("support", "Support", help="Are its claims supported by the sources that it quotes?"),
            Criterion("coherence", "Coherence", help="Is it easy to follow, and does it not contradict itself?"),
            Criterion("information", "Information", help="Does it say what the question asks for?"),
        ),
        criteria_first=True,
    ),
    "2112.09332",
)
LLAMA2 = Preset(
    "llama-2",
    "Llama 2, four grades and safety",
    "One of two responses must be chosen: significantly better, better, slightly better, or negligibly better or "
    "unsure; and each response is called safe or unsafe.",
    Protocol(
        question="Which response do you prefer?",
        max_strength=4,
        tie=False,
        both_bad=False,
        grades=("negligibly better, or unsure", "slightly better", "better", "significantly better"),
        safety=True,
        rationale="off",
    ),
    "2307.09288",
)
HELPSTEER2 = Preset(
    "helpsteer2",
    "HelpSteer2 attributes",
    "Every response is rated by itself, from 0 to 4 on five attributes; nothing is compared.",
    Protocol(
        question="Rate each response by itself.",
        form="rating",
        criteria=(
            helpsteer("helpfulness", "Helpfulness", "not helpful", "very helpful"),
            helpsteer("correctness", "Correctness", "wrong", "correct and complete"),
            helpsteer("coherence", "Coherence", "incoherent", "clear throughout"),
            helpsteer("complexity", "Complexity", "anybody could write it", "needs an expert"),
            helpsteer("verbosity", "Verbosity", "terse", "verbose"),
        ),
    ),
    "2406.08673",
)
HELPSTEER3 = Preset(
    "helpsteer3",
    "HelpSteer3, seven steps with reasoning",
    "Seven steps from much better to much better with about the same between them, and one or two sentences that say "
    "why.",
    Protocol(
        grades=("slightly better", "better", "much better"),
        both_bad=False,
        rationale="required",
        rationale_words=10,
    ),
    "2505.11475",
)
CHATBOT_ARENA = Preset(
    "chatbot-arena",
    "Chatbot Arena",
    "The labeler chats with two anonymous models side by side and votes: A, B, tie or both bad.",
    Protocol(max_strength=1, rationale="off", chat=True),
    "2403.04132",
)
PRISM = Preset(
    "prism",
    "PRISM sliders",
    "The labeler chats and rates each response on a slider from terrible to perfect; the numbers 0 to 100 stand for "
    "the paper's 1 to 100.",
    Protocol(
        question="How good is each response?",
        form="rating",
        criteria=(
            Criterion("rating", "Rating", kind="slider", low_word="terrible", high_word="perfect"),
        ),
        chat=True,
    ),
    "2404.16019",
)
DEMONSTRATION = Preset(
    "demonstration",
    "Demonstrations",
    "The labeler writes the answer: what a first, supervised training learns from.",
    Protocol(question="Write the answer that you would want to get.", form="demonstration", rationale="off"),
)
PRESETS = {
    preset.key: preset
    for preset in (
        DEFAULT, INSTRUCTGPT, ANTHROPIC_HH, WEBGPT, LLAMA2, HELPSTEER2, HELPSTEER3, CHATBOT_ARENA, PRISM, DEMONSTRATION,
    )
}  # fmt: skip
