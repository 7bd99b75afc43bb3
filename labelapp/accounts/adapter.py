"""How accounts come to be: never by themselves."""

from allauth.account.adapter import DefaultAccountAdapter


class ClosedSignup(DefaultAccountAdapter):
    """Accounts are made by an admin; nobody signs up alone."""

    def is_open_for_signup(self, request) -> bool:
        return False
