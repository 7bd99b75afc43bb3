"""What is asked of a policy, and what was answered."""

import hashlib
import json

from django.db import models

from labelapp.models.projects import Project


def message_hash(messages: list[dict]) -> str:
    """SHA-256 of the canonical JSON of the turns: key order and whitespace between keys do not count."""
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
    return text_hash(json.dumps(turns, ensure_ascii=False, sort_keys=True, separators=(",", ":")))


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Prompt(models.Model):
    """The turns before an answer. Never edited; the same turns are the same row.

    messages: [{"role": "system"|"user"|"assistant", "content": str}, ...], ending in a user turn.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="prompts")
    messages = models.JSONField()
    content_hash = models.CharField(max_length=64, help_text="SHA-256 of the canonical JSON of the messages.")
    group = models.CharField(
        max_length=200, help_text="What stays whole in a split: a debate, or the hash of the first user turn."
    )
    source = models.CharField(max_length=200, blank=True, help_text="Where it came from: a file, the API.")
    metadata = models.JSONField(default=dict, blank=True)
    fresh = models.BooleanField(default=False, help_text="For sampling new comparisons; has no imported completions.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "content_hash"], name="prompt_is_unique_in_project")
        ]
        indexes = [models.Index(fields=["project", "fresh"], name="prompt_project_fresh")]

    def __str__(self):
        return self.last_turn[:80]

    @property
    def last_turn(self) -> str:
        return self.messages[-1]["content"] if self.messages else ""


class Completion(models.Model):
    """One answer to a prompt, and who wrote it. Authors are never shown to labelers before they judge."""

    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="completions")
    text = models.TextField()
    content_hash = models.CharField(max_length=64, help_text="SHA-256 of the text.")
    version = models.ForeignKey(
        "labelapp.Version", models.PROTECT, null=True, blank=True, related_name="completions"
    )
    author = models.CharField(
        max_length=200, blank=True, help_text='"human", or an external model\'s name; empty if a Version wrote it.'
    )
    sampling = models.JSONField(default=dict, blank=True, help_text="Temperature, top_p, seed, tokens.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["prompt", "content_hash", "version", "author"],
                nulls_distinct=False,
                name="completion_is_unique_by_author",
            ),
            models.CheckConstraint(
                condition=models.Q(version__isnull=False, author="")
                | (models.Q(version__isnull=True) & ~models.Q(author="")),
                name="completion_has_one_author",
            ),
        ]

    def __str__(self):
        return self.text[:80]
