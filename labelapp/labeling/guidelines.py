"""Which guidelines a labeler has read, and what changed since."""

from django.db.models import F

from labelapp.labeling.text.diffs import changes_only, word_diff
from labelapp.models import GuidelineVersion, Membership


def news_of(membership: Membership, guideline: dict | None) -> dict | None:
    """What changed since the version that the member read last: {"seen", "number", "diff"}; None where nothing did.

    The first version that somebody meets is noted and is no news.
    """
    if guideline is None or membership.guideline_seen >= guideline["number"]:
        return None
    if membership.guideline_seen == 0:
        mark_seen(membership=membership, number=guideline["number"])
        return None
    old = GuidelineVersion.objects.filter(project=membership.project_id, number=membership.guideline_seen).first()
    diff = changes_only(word_diff(old.text if old else "", guideline["text"]))
    return {"seen": membership.guideline_seen, "number": guideline["number"], "diff": diff}


def mark_seen(*, membership: Membership, number: int) -> bool:
    """Note that the member read this version. False where there is none, or they read a later one already."""
    if not GuidelineVersion.objects.filter(project=membership.project_id, number=number).exists():
        return False
    earlier = Membership.objects.filter(pk=membership.pk, guideline_seen__lt=number)
    return earlier.update(guideline_seen=number) == 1


def versions_of(project) -> list[GuidelineVersion]:
    """Newest first, each with `diff`: its changes to the version before; None for the first."""
    versions = list(GuidelineVersion.objects.filter(project=project).order_by(F("number").desc()))
    for newer, older in zip(versions, [*versions[1:], None], strict=True):
        newer.diff = changes_only(word_diff(older.text, newer.text)) if older else None
    return versions
