from django.apps import AppConfig


class LabelappConfig(AppConfig):
    name = "labelapp"
    default_auto_field = "django.db.models.BigAutoField"
