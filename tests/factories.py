"""Rows that tests start from: plain functions, real tables."""

from itertools import count

from labelapp.models import (
    Comparison,
    ComparisonCompletion,
    Completion,
    GuidelineVersion,
    Membership,
    Project,
    Prompt,
    ProtocolVersion,
    Slot,
    User,
    Version,
    message_hash,
    text_hash,
)

_number = count(1)
PROTOCOL = {"question": "Which answer is better?", "max_strength": 3, "tie": True, "both_bad": True}


def make_user(username: str | None = None, password: str = "correct horse battery") -> User:
    return User.objects.create_user(username or f"person{next(_number)}", password=password)


def make_project(slug: str | None = None, *, overlap: int = 1, **people: User) -> Project:
    """A project with guidelines, a protocol, and members by role: make_project(labeler=..., admin=...)."""
    slug = slug or f"project-{next(_number)}"
    project = Project.objects.create(slug=slug, name=slug.replace("-", " ").title(), overlap=overlap)
    GuidelineVersion.objects.create(project=project, number=1, text="Judge the argument, not the opinion.")
    ProtocolVersion.objects.create(project=project, number=1, definition=PROTOCOL)
    for role, user in people.items():
        add_member(project, user, role)
    return project


def add_member(project: Project, user: User, role: str) -> Membership:
    return Membership.objects.create(project=project, user=user, role=role)


def make_prompt(project: Project, text: str | None = None, *, group: str = "", **fields) -> Prompt:
    messages = [{"role": "user", "content": text or f"Argue that number {next(_number)} is the best."}]
    digest = message_hash(messages)
    return Prompt.objects.create(
        project=project, messages=messages, content_hash=digest, group=group or digest, **fields
    )


def make_completion(prompt: Prompt, text: str | None = None, *, author: str = "human", **fields) -> Completion:
    text = text or f"Because of reason {next(_number)}."
    return Completion.objects.create(
        prompt=prompt, text=text, content_hash=text_hash(text), author="" if "version" in fields else author, **fields
    )


def make_comparison(
    project: Project, *texts: str, prompt: Prompt | None = None, slots: int | None = None, **fields
) -> Comparison:
    """A comparison of the given texts (two made-up ones by default) with open slots, one per overlap."""
    prompt = prompt or make_prompt(project)
    completions = [make_completion(prompt, text) for text in texts or (None, None)]
    overlap = fields.pop("overlap", project.overlap)
    comparison = Comparison.objects.create(
        project=project,
        prompt=prompt,
        protocol=project.protocol_versions.last(),
        overlap=overlap,
        content_hash=Comparison.hash_of(prompt, completions),
        **fields,
    )
    for position, completion in enumerate(completions):
        ComparisonCompletion.objects.create(comparison=comparison, completion=completion, position=position)
    order = list(range(len(completions)))
    for number in range(overlap if slots is None else slots):
        Slot.objects.create(
            comparison=comparison,
            project=project,
            number=number,
            shuffle_key=next(_number),
            display_order=order if number % 2 == 0 else order[::-1],
        )
    return comparison


def make_version(project: Project, *, kind: str = "policy", path: str = "", digest: str = "", **fields) -> Version:
    number = next(_number)
    return Version.objects.create(
        project=project,
        kind=kind,
        name=fields.pop("name", f"{kind}-t{number}"),
        path=path or f"/nonexistent/{number}",
        digest=digest or f"{number:064x}",
        **fields,
    )
