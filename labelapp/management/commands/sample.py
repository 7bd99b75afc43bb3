import json

from django.core.management.base import BaseCommand, CommandError

from labelapp.management.asking import person_named, project_named, wait_until
from labelapp.models import Round
from labelapp.models.rounds import ACTIVE_STATES
from labelapp.rounds.actions import LaunchRefused
from labelapp.rounds.sampling import sample_comparisons


class Command(BaseCommand):
    help = "Sample new comparisons between the promoted policy and its parent on fresh prompts."

    def add_arguments(self, parser):
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("-n", "--prompts", type=int, default=20, help="how many prompts (20)")
        parser.add_argument("--seed", type=int, help="draws prompts and answers; a random one by default")
        parser.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (1.0)")
        parser.add_argument("--max-new-tokens", type=int, default=96, help="the longest answer (96)")
        parser.add_argument("--by", metavar="USERNAME", help="the person who does this")
        parser.add_argument("--wait", action="store_true", help="wait until the comparisons are in the queue")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, project: str, by, wait: bool, json: bool, **options):
        how = {name: options[name] for name in ("prompts", "seed", "temperature", "max_new_tokens")}
        try:
            round = sample_comparisons(project=project_named(project), by=person_named(by), **how)
        except LaunchRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        if wait:
            wait_until(lambda: not Round.objects.filter(pk=round.pk, state__in=ACTIVE_STATES).exists())
            round.refresh_from_db()
            if round.state != Round.State.DONE:
                raise CommandError(round.error or f"Round {round.number} is {round.state}.")
        self.stdout.write(said(round, as_json=json))


def said(round: Round, *, as_json: bool) -> str:
    collected = round.events.filter(kind="collected").values_list("detail", flat=True).first()
    prompts = len(round.recipe["prompts"])
    if as_json:
        facts = {"round": round.number, "state": round.state, "seed": round.seed, "prompts": prompts}
        return json.dumps({**facts, "propensity": round.recipe["propensity"], "collected": collected})
    if collected is None:
        return f"Round {round.number} samples answers to {prompts} prompts."
    left_out = ", ".join(f"{count} {fate}" for fate, count in collected.items() if fate != "comparisons" and count)
    return f"Round {round.number}: {collected['comparisons']} new comparisons{f' ({left_out})' if left_out else ''}."
