"""What tests with a browser share: somebody signed in, and a page that keeps what its console complains of."""

from django.test import Client


def sign_in(context, address: str, person) -> None:
    """Give the browser's context the session of a person at an address."""
    client = Client()
    client.force_login(person)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}])


def watched_page(context):
    """A new page; errors of its console and of its scripts are collected in `complaints`."""
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    return page
