"""The ASGI application: pages, event streams and /v1."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labelapp.settings")
application = get_asgi_application()
