"""The forms about people: members, invitations, a new account."""

from datetime import timedelta

from allauth.account.adapter import get_adapter
from django import forms
from django.contrib.auth.password_validation import password_validators_help_texts, validate_password
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from labelapp.accounts.invitations import MOST_USES
from labelapp.accounts.people import PeopleRefused, checked_tags
from labelapp.models import Membership, User

EXPIRY = [(1, _("1 hour")), (24, _("1 day")), (72, _("3 days")), (168, _("1 week")), (720, _("30 days"))]


class TagsField(forms.CharField):
    """Tags between commas."""

    def __init__(self, **kwargs):
        super().__init__(required=False, max_length=1500, **kwargs)

    def prepare_value(self, value):
        return ", ".join(value) if isinstance(value, list) else value

    def clean(self, value):
        try:
            return checked_tags(super().clean(value).split(","))
        except PeopleRefused as refusal:
            raise ValidationError(str(refusal)) from refusal


class MemberForm(forms.Form):
    """Role, tags and cap of one member."""

    role = forms.ChoiceField(choices=Membership.Role.choices, label=_("Role"))
    tags = TagsField(label=_("Tags"), help_text=_("Languages and skills, between commas."))
    daily_cap = forms.IntegerField(
        label=_("Judgments a day"), required=False, min_value=0, max_value=100_000,
        help_text=_("Empty: as the project says."),
    )  # fmt: skip


class InviteForm(forms.Form):
    """A new invitation."""

    role = forms.ChoiceField(choices=Membership.Role.choices, initial=Membership.Role.LABELER, label=_("Role"))
    tags = TagsField(label=_("Tags"), help_text=_("Languages and skills, between commas; whoever joins gets them."))
    hours = forms.TypedChoiceField(choices=EXPIRY, coerce=int, initial=168, label=_("Good for"))
    uses = forms.IntegerField(min_value=1, max_value=MOST_USES, initial=1, label=_("People who may join"))
    sure = forms.BooleanField(
        required=False, label=_("Yes, whoever has this link becomes an admin and may do everything here.")
    )

    def clean(self):
        given = super().clean()
        if given.get("role") == Membership.Role.ADMIN and not given.get("sure"):
            self.add_error("sure", _("Tick this box to invite an admin, or choose another role."))
        return given

    @property
    def expires_in(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["hours"])


class AccountForm(forms.Form):
    """A new account, made by somebody who has an invitation."""

    username = forms.CharField(
        max_length=150, label=_("User name"), widget=forms.TextInput(attrs={"autocomplete": "username"})
    )
    email = forms.EmailField(
        required=False, label=_("E-mail"), help_text=_("May stay empty. You can sign in with it, too."),
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )  # fmt: skip
    password = forms.CharField(
        label=_("Password"), strip=False, max_length=4096,
        help_text=" ".join(map(str, password_validators_help_texts())),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )  # fmt: skip

    def clean_username(self):
        return get_adapter().clean_username(self.cleaned_data["username"])

    def clean_email(self):
        email = self.cleaned_data["email"]
        if email and User.objects.filter(email__iexact=email).exists():
            raise ValidationError(_("An account has this e-mail already: sign in with it, or leave this empty."))
        return email

    def clean_password(self):
        password = self.cleaned_data["password"]
        about = User(username=self.cleaned_data.get("username", ""), email=self.cleaned_data.get("email", ""))
        validate_password(password, about)
        return password
