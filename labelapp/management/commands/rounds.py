"""List a project's rounds, or cancel one of them."""

import json

from django.core.management.base import BaseCommand, CommandError

from labelapp.management.asking import person_named, project_named
from labelapp.rounds.actions import RoundIsOver, request_cancel
from labelapp.rounds.story import told_round


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser) -> None:
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("--cancel", type=int, metavar="NUMBER", help="ask for the end of this round")
        parser.add_argument("--by", metavar="USERNAME", help="the person who cancels")
        parser.add_argument("--json", action="store_true", help="print JSON: the rounds, newest first")

    def handle(self, *, project: str, cancel: int | None, json: bool, **options) -> None:
        found = project_named(project)
        if cancel is not None:
            self.cancel(found, cancel, options["by"], as_json=json)
        elif json:
            self.stdout.write(as_json([told_round(round) for round in found.rounds.all()]))
        else:
            for round in found.rounds.all():
                self.stdout.write(line(told_round(round)))

    def cancel(self, project, number: int, by: str | None, *, as_json: bool) -> None:
        round = project.rounds.filter(number=number).first()
        if round is None:
            raise CommandError(f"There is no round {number} here.")
        try:
            ended = request_cancel(round=round, by=person_named(by))
        except RoundIsOver as refusal:
            raise CommandError(str(refusal)) from refusal
        if as_json:
            return self.stdout.write(json.dumps(told_round(ended)))
        stopping = "is being stopped" if ended.state == "running" else "is cancelled"
        self.stdout.write(f"Round {number} {stopping}.")


def as_json(rounds: list[dict]) -> str:
    return json.dumps(rounds)


def line(round: dict) -> str:
    stages = " ".join(f"{stage['name']}:{stage['state']}" for stage in round["stages"])
    made = " ".join(round["versions"]) or round["error"]
    return f"{round['number']:>4}  {round['state']:<9}  {stages}  {made}".rstrip()
