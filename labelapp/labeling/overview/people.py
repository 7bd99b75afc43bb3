"""What an admin does about one labeler's work: stop it, and let it go on. The quiz's doors are in quiz.py."""

from django.db import transaction
from django.utils import timezone

from labelapp.accounts.people import free_leases
from labelapp.models import Membership


@transaction.atomic
def pause(membership: Membership, because: str) -> None:
    """Hand this person nothing from now on, tell them why, and give back what they hold.

    What they are just writing is not lost: it counts unless somebody else has taken the item, and is surplus then.
    """
    Membership.objects.filter(pk=membership.pk).update(paused_at=timezone.now(), paused_because=because.strip())
    free_leases(project=membership.project_id, user=membership.user_id)


def resume(membership: Membership) -> None:
    """Let them go on."""
    Membership.objects.filter(pk=membership.pk).update(paused_at=None, paused_because="")
