"""What a labeler can do in a conversation, besides judging (vote.py): ask, try again, go on, end."""

from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from labelapp.chat.draw import candidates, draw_for, place_sides
from labelapp.chat.mask import own_names
from labelapp.chat.refusals import BadPrompt, NothingToAsk, NotNow, OutOfStep
from labelapp.labeling.actions import protocol_of
from labelapp.labeling.consent import lacks_consent
from labelapp.models import ChatSide, ChatTurn, Conversation, Membership, Project, WorkDay

MOST_TURNS = 8
LONGEST_PROMPT = 8000
State = ChatTurn.State


def latest_protocol(project: Project):
    """The protocol version in force, if it is one for chat."""
    latest = project.protocol_versions.last()
    return latest if latest and protocol_of(latest.pk).chat else None


def refuse_work(membership: Membership) -> None:
    """Raise NotNow where the queue would hand this person nothing either."""
    project = membership.project
    if membership.paused_at:
        why = membership.paused_because or _("ask an admin")
        raise NotNow(_("You are paused in this project: %(why)s") % {"why": why})
    if lacks_consent(membership):
        raise NotNow(_("Accept the project's consent text first: open Compare, it is shown there."))
    if membership.is_before_quiz:
        raise NotNow(_("Pass the project's quiz first: open Compare, it begins there."))
    cap = membership.cap
    today = WorkDay.objects.filter(project=project, labeler=membership.user_id, day=timezone.now().date()).first()
    if cap is not None and today and today.judged >= cap:
        raise NotNow(_("You have judged %(n)d today, which is the cap. Come back tomorrow.") % {"n": today.judged})


def open_conversation(*, project: Project, labeler) -> Conversation | None:
    return Conversation.objects.filter(project=project, labeler=labeler, ended_at=None).first()


def start_turn(*, membership: Membership, key: UUID, text: str) -> ChatTurn:
    """Draw the models that answer a prompt; a replay of the same key returns the stored turn.

    Opens a conversation where none is open. Raises NotNow, BadPrompt, NothingToAsk and OutOfStep.
    """
    if known := ChatTurn.objects.filter(key=key, labeler=membership.user_id).first():
        return known
    refuse_work(membership)
    protocol = latest_protocol(membership.project)
    if protocol is None:
        raise NothingToAsk(_("This project does not chat: its protocol asks about comparisons from the queue."))
    try:
        with transaction.atomic():
            return _start(membership, key, _prompt(text), protocol)
    except IntegrityError as error:
        if known := ChatTurn.objects.filter(key=key, labeler=membership.user_id).first():
            return known
        if "one_running_chat_turn_per_labeler" in str(error):
            raise NotNow(_("Another prompt of yours is being answered. Judge it first, or end that chat.")) from error
        if "one_open_chat_per_labeler" in str(error) or "chat_turn_number_is_unique" in str(error):
            raise OutOfStep(_("You went on in another tab. Look at where the conversation is now.")) from error
        raise


def _prompt(text: str) -> str:
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise BadPrompt(_("Write a prompt first."))
    if len(text) > LONGEST_PROMPT:
        raise BadPrompt(
            _("Your prompt has %(n)d characters; keep it under %(most)d.") % {"n": len(text), "most": LONGEST_PROMPT}
        )
    if "\0" in text:
        raise BadPrompt(_("Your prompt has a NUL character in it; delete it."))
    return text


def _start(membership: Membership, key: UUID, text: str, protocol) -> ChatTurn:
    project, labeler = membership.project, membership.user
    conversation, _made = Conversation.objects.get_or_create(project=project, labeler=labeler, ended_at=None)
    conversation = Conversation.objects.select_for_update().get(pk=conversation.pk)
    last = conversation.turns.last()
    if last and (last.state != State.JUDGED or last.continued is None):
        raise OutOfStep(_("Judge the answers before you, and say with which the conversation goes on."))
    if last and last.number >= MOST_TURNS:
        raise OutOfStep(_("This conversation has its %(n)d turns. End it, and begin a new one.") % {"n": MOST_TURNS})
    models = candidates(project)
    number = last.number + 1 if last else 1
    drawn = draw_for(number, protocol_of(protocol.pk), models, last and winner_of(last, models))
    turn = ChatTurn.objects.create(
        conversation=conversation,
        number=number,
        labeler=labeler,
        key=key,
        messages=[*messages_after(last), {"role": "user", "content": text}],
        protocol=protocol,
        guideline=project.guideline_versions.last(),
        propensity=drawn.propensity,
        masked_names=names_of(project),
    )
    place_sides(turn, drawn.models)
    return turn


def messages_after(last: ChatTurn | None) -> list[dict]:
    """The conversation with the answer that was chosen to go on with."""
    if last is None:
        return []
    chosen = last.sides.get(place=last.continued)
    return [*last.messages, {"role": "assistant", "content": chosen.text}]


def winner_of(last: ChatTurn, models: list):
    """The model that wrote the answer to go on with, if it can still be asked."""
    chosen = last.sides.select_related("version", "upstream").get(place=last.continued)
    return next((model for model in models if model == (chosen.version or chosen.upstream)), None)


def names_of(project: Project) -> list[str]:
    """What the project's own models are called: versions, upstream models and how their APIs name them."""
    names = list(project.versions.values_list("name", flat=True))
    for row in project.upstream_models.all():
        names += [row.name, row.model, row.model.split("/")[-1]]
    return list(own_names(names))


def try_again(*, turn_id: int, labeler) -> ChatTurn:
    """Draw models anew for a turn that failed; those that failed are left out where others remain. Raises OutOfStep."""
    with transaction.atomic():
        turn = own_turn(turn_id, labeler)
        if turn.state != State.FAILED:
            raise OutOfStep(_("These answers have not failed; nothing is asked again."))
        project = turn.conversation.project
        failed = {side.version or side.upstream for side in turn.sides.all() if side.finish == "failed"}
        models = candidates(project)
        remaining = [model for model in models if model not in failed]
        models = remaining if len(remaining) > 1 else models
        before = turn.conversation.turns.filter(number=turn.number - 1).first()
        winner = winner_of(before, models) if before else None
        drawn = draw_for(turn.number, protocol_of(turn.protocol_id), models, winner)
        turn.sides.all().delete()
        place_sides(turn, drawn.models)
        turn.state, turn.error, turn.attempt = State.WAITING, "", turn.attempt + 1
        turn.propensity, turn.masked_names, turn.runner = drawn.propensity, names_of(project), None
        try:
            with transaction.atomic():
                turn.save()
        except IntegrityError as error:
            raise NotNow(_("Another prompt of yours is being answered. Judge it first, or end that chat.")) from error
        return turn


def own_turn(turn_id: int, labeler) -> ChatTurn:
    """The labeler's turn, locked for this transaction. Raises ChatTurn.DoesNotExist for what is not theirs."""
    rows = ChatTurn.objects.select_related("conversation__project").select_for_update(of=("self",))
    return rows.get(pk=turn_id, labeler=labeler)


def go_on(*, turn_id: int, labeler, place: int) -> ChatTurn:
    """Say with which answer the conversation goes on where the judgment left it open. Raises OutOfStep."""
    with transaction.atomic():
        turn = own_turn(turn_id, labeler)
        if turn.continued == place:
            return turn
        if turn.state != State.JUDGED or turn.continued is not None or turn.conversation.ended_at:
            raise OutOfStep(_("The conversation has gone on already. Look at where it is now."))
        if not turn.sides.filter(place=place).exists():
            raise OutOfStep(_("There is no such answer to go on with; choose one of those shown."))
        turn.continued = place
        turn.save(update_fields=["continued"])
        return turn


def end(*, conversation_id: int, labeler) -> Conversation:
    """End a conversation; an unjudged turn makes no row elsewhere. Ending again changes nothing."""
    with transaction.atomic():
        conversation = Conversation.objects.select_for_update().get(pk=conversation_id, labeler=labeler)
        unjudged = conversation.turns.exclude(state=State.JUDGED)
        unjudged.update(state=State.LEFT, runner=None, lease_until=None)
        Conversation.objects.filter(pk=conversation.pk, ended_at=None).update(ended_at=Now())
        conversation.refresh_from_db()
        return conversation


def sides_of(turn: ChatTurn) -> list[ChatSide]:
    return list(turn.sides.select_related("version", "upstream").order_by("place"))
