"""Launch a round from the shell: the same function, the same refusals as the page."""

import json
import time

from django.core.management.base import BaseCommand, CommandError

from labelapp.management.asking import person_named, project_named
from labelapp.models import Estimate, Project, RecipeVersion, Round, Snapshot, Version
from labelapp.rounds.actions import LaunchRefused, launch_round, usual_parent
from labelapp.rounds.budget import Expected, has_budget, has_prices, hours_text, money_of, money_text
from labelapp.rounds.checks import size
from labelapp.rounds.dry_runs import order_estimate
from labelapp.rounds.estimate import by_dry_run, expected_of
from labelapp.rounds.overview import is_over
from labelapp.rounds.presets import PRESETS, USUAL
from labelapp.rounds.recipes import OptionRefused, read_changes
from labelapp.rounds.saved import plan_preset, plan_saved, versions_of
from labelapp.rounds.story import told_round

LOOK_SECONDS = 1.0


class Command(BaseCommand):
    help = "Launch a training round by one of the recipes."

    def add_arguments(self, parser) -> None:
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("--recipe", default=USUAL, choices=list(PRESETS), help="reward-dpo by default")
        parser.add_argument("--saved", default="", metavar="NAME[@N]", help="a saved recipe, its newest or Nth version")
        parser.add_argument("--snapshot", default="", help="beginning of a snapshot's digest; default: the newest")
        parser.add_argument("--parent", default="", help="name of a policy; default: the promoted one, or the newest")
        parser.add_argument("--mitigation", action="store_true", help="counterfactual penalty, with a baseline arm")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as preference.beta=0.2")
        parser.add_argument("--estimate", action="store_true", help="only run it dry, and say what it would take")
        parser.add_argument("--by", metavar="USERNAME", help="the person who does this")
        parser.add_argument("--wait", action="store_true", help="wait for the end; exit code 1 unless it is done")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, project: str, recipe: str, mitigation: bool, seed: int, wait: bool, **options) -> None:
        found, by = project_named(project), person_named(options["by"])
        try:
            what = {"recipe": recipe, "mitigation": mitigation, "changes": read_changes(options["set"])}
            saved = find_saved(found, options["saved"], options["set"])
            plan = plan_saved(saved) if saved else plan_preset(recipe, mitigation=mitigation, changes=what["changes"])
            start = {"project": found, "snapshot": find_snapshot(found, options["snapshot"])}
            start["parent"] = find_parent(found, options["parent"])
            if options["estimate"] or (has_budget(found) and expected_of(plan=plan, **start) is None):
                self.say_estimate(order_estimate(plan=plan, **start, seed=seed, by=by, now=True), options["json"])
                if options["estimate"]:
                    return
            round = launch_round(**start, **what, saved=saved, seed=seed, by=by)
        except (LaunchRefused, OptionRefused) as refusal:
            raise CommandError(str(refusal)) from refusal
        if wait:
            follow(round, say=None if options["json"] else self.stdout.write)
        story = told_round(round)
        self.stdout.write(json.dumps(story) if options["json"] else f"Round {round.number} is {round.state}.")
        if wait and round.state != Round.State.DONE:
            raise CommandError(round.error or f"The round ended {round.state}.")


    def say_estimate(self, estimate: Estimate, as_json: bool) -> None:
        """Raises CommandError where the dry run failed."""
        if estimate.state != Estimate.State.DONE:
            raise CommandError(estimate.error or f"The dry run is {estimate.state}.")
        if as_json:
            return self.stdout.write(json.dumps(estimate.found))
        expected = by_dry_run(estimate)
        for check in estimate.found["checks"]:
            self.stdout.write(f"{check['name']}: {check['text']}")
        self.stdout.write(
            f"About {hours_text(expected.device_hours)} of {expected.device}, {cost_text(estimate.project, expected)}"
            f"{size(expected.peak_bytes)} of memory at most."
        )


def cost_text(project: Project, expected: Expected) -> str:
    """Such as "1.20 EUR, "; nothing where hours have no price."""
    money = money_of(project, expected.device, expected.device_seconds)
    return f"{money_text(money, project.currency)}, " if has_prices(project) else ""


def find_snapshot(project: Project, digest: str) -> Snapshot:
    """The newest snapshot whose digest begins like this."""
    found = list(project.snapshots.filter(digest__startswith=digest)[:2])
    if not found:
        raise CommandError(f"There is no snapshot {digest!r} here." if digest else "Freeze a snapshot first.")
    if digest and len(found) > 1:
        raise CommandError(f"Several snapshots begin with {digest!r}: name more of the digest.")
    return found[0]


def find_parent(project: Project, name: str) -> Version:
    found = project.versions.filter(name=name).first() if name else usual_parent(project)
    if found is None:
        raise CommandError(f"There is no version {name!r} here." if name else "There is no policy to start from yet.")
    return found


def find_saved(project: Project, asked: str, changes: list[str]) -> RecipeVersion | None:
    """The version that NAME or NAME@NUMBER names."""
    if not asked:
        return None
    if changes:
        raise CommandError("A saved recipe runs as it was saved: leave out --set, or --saved.")
    name, at, number = asked.rpartition("@")
    versions = versions_of(project).filter(recipe__name=name if at and number.isdecimal() else asked)
    if at and number.isdecimal():
        versions = versions.filter(number=int(number))
    if (version := versions.first()) is None:
        known = ", ".join(project.recipes.values_list("name", flat=True)[:20]) or "none yet"
        raise CommandError(f"There is no saved recipe {asked!r} here; there is {known}.")
    return version


def follow(round: Round, *, say) -> None:
    """Look until the round is over; say each new event."""
    known = 0
    while True:
        round.refresh_from_db()
        for event in round.events.filter(pk__gt=known):
            known = event.pk
            if say:
                say(f"{event.created_at:%H:%M:%S} {event.kind} {event.detail.get('stage', '')}".rstrip())
        if is_over(round):
            return
        time.sleep(LOOK_SECONDS)
