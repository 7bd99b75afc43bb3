"""The limit that Django sets: one view with the product's own submit and claim, prepared as there, and nothing else.

No middleware, no session, no template, no form: who asks stands in the address, what is said and shown is JSON. One
transaction a judgment, as in the product.
"""

import json
import os

import django
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labelapp.settings")
django.setup()
settings.MIDDLEWARE = []  # not before: allauth's set-up wants its own
settings.ROOT_URLCONF = __name__

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from psycopg.types.json import Jsonb  # noqa: E402

from labelapp.labeling.desk import SHOWN  # noqa: E402
from labelapp.labeling.queue import CLAIM, LEASE  # noqa: E402
from labelapp.labeling.submit import COLUMNS, SUBMIT  # noqa: E402
from labelapp.models.prepared import read_rows  # noqa: E402

PROJECT = int(os.environ["BENCH_PROJECT"])
EMPTY = {name: None for name in COLUMNS} | {"ratings": Jsonb({}), "safety": Jsonb([]), "spans": Jsonb([])}
EMPTY |= {"ranking": Jsonb([[0], [1]]), "strength": -1, "both_bad": False, "rationale": "", "rewrite": ""}
EMPTY |= {"unrankable": [], "reasons": [], "seen": [], "body_hash": "0" * 64, "active_seconds": 12}


@csrf_exempt
def judge(request: HttpRequest, labeler: int) -> HttpResponse:
    """Store what the body says, and bring the next item in the same transaction."""
    said = json.loads(request.body)
    with transaction.atomic():
        if said and not read_rows(SUBMIT, EMPTY | said | {"labeler": labeler}):
            return HttpResponse("the slot went to somebody else", status=409)
        values = {"project": PROJECT, "labeler": labeler, "holding": [], "lease": LEASE, "first_lease": LEASE}
        row = read_rows(CLAIM + SHOWN, values)[0]
    names = {"slot": "id", "comparison": "comparison_id", "token": "claim_token", "display_order": "display_order"}
    shown = {name: row[column] for name, column in names.items()}
    shown |= {"protocol_id": row["protocol_id"], "token": str(row["claim_token"])}
    shown |= {"messages": row["messages"], "texts": row["texts"], "guideline_id": json.loads(row["guideline"])["id"]}
    body = json.dumps(shown)
    return HttpResponse(body, content_type="application/json", headers={"Content-Length": str(len(body))})


urlpatterns = [path("<int:labeler>/", judge)]
application = WSGIHandler()
