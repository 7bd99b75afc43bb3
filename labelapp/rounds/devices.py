"""Which devices a round's trainer may use: rows, so that two rounds never share one. Serving's are not among them."""

import socket

from django.conf import settings
from django.db import connection

from labelapp.models import DeviceHold, Round
from labelapp.rounds.recipes import devices_of

LOCK = 0x64657669  # "devi", with the host's name: one choice at a time


class NoDevice(Exception):
    """Fewer devices are free here than the round asks for; `detail` says how many, for its event."""

    def __init__(self, detail: dict):
        super().__init__("{free} of {of} devices are free on {host}, {wanted} are needed".format(**detail))
        self.detail = detail


def host() -> str:
    """The machine that the trainers of this worker run on."""
    return settings.TRAINING_DEVICES_HOST or socket.gethostname()


def wanted_by(round: Round) -> int:
    """As many as the stage that trains on most of them."""
    return max((devices_of(spec) for spec in round.recipe["stages"]), default=1)


def reserve(round: Round) -> list[str]:
    """Hold as many of this worker's devices as the round asks for; none where it has none to give.

    Call it in the transaction of the claim. Raises NoDevice.
    """
    ours, wanted, here = settings.TRAINING_DEVICE_NAMES, wanted_by(round), host()
    release(round)
    if not ours:
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [LOCK, here])
    taken = set(DeviceHold.objects.filter(host=here).values_list("device", flat=True))
    free = [device for device in ours if device not in taken]
    if len(free) < wanted:
        raise NoDevice({"wanted": wanted, "free": len(free), "of": len(ours), "host": here})
    DeviceHold.objects.bulk_create(DeviceHold(round=round, host=here, device=device) for device in free[:wanted])
    return free[:wanted]


def held(round: Round) -> list[str]:
    """The devices of a claimed round."""
    return list(round.device_holds.order_by("pk").values_list("device", flat=True))


def seen_by(chosen: list[str]) -> dict[str, str]:
    """The environment of a trainer that sees these devices alone; nothing where none were chosen."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)} if chosen else {}


def spare() -> list[str]:
    """One device that no round holds now, for what runs but a moment; none where this worker has none to give.

    Raises NoDevice.
    """
    ours, here = settings.TRAINING_DEVICE_NAMES, host()
    taken = set(DeviceHold.objects.filter(host=here).values_list("device", flat=True))
    free = [device for device in ours if device not in taken]
    if ours and not free:
        raise NoDevice({"wanted": 1, "free": 0, "of": len(ours), "host": here})
    return free[:1]


def release(round: Round) -> None:
    """Let others have the round's devices; call it in the transaction of its transition."""
    round.device_holds.all().delete()
