"""Settings for a beat that rings every second what it otherwise rings every quarter of a minute or more rarely."""

from labelapp.settings import *  # noqa: F403
from labelapp.settings import CELERY_BEAT_SCHEDULE

CELERY_BEAT_SCHEDULE = {name: {**entry, "schedule": 1.0} for name, entry in CELERY_BEAT_SCHEDULE.items()}
