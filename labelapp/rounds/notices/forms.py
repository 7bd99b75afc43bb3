"""The form of a new webhook."""

from django import forms
from django.utils.translation import gettext_lazy as _

from labelapp.rounds.notices.webhook import AddressRefused, check_address


class WebhookForm(forms.Form):
    address = forms.URLField(
        max_length=500, assume_scheme="https", label=_("Web address"),
        help_text=_("Each end of a round is sent there as signed JSON, as Standard Webhooks describes it."),
        widget=forms.URLInput(attrs={"placeholder": "https://hooks.example.org/labelapp"}),
    )  # fmt: skip

    def clean_address(self) -> str:
        try:
            check_address(self.cleaned_data["address"])
        except AddressRefused as refusal:
            raise forms.ValidationError(str(refusal)) from refusal
        return self.cleaned_data["address"]
