"""The ASGI application: pages, event streams and /v1."""

import os
import warnings

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labelapp.settings")
# WhiteNoise hands out static files as ordinary iterators; Django reads them whole, which is right for files so small.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
application = get_asgi_application()

from labelapp.leash import follow_supervisor  # noqa: E402 - the tables exist only now
from labelapp.processes import beat_heart  # noqa: E402

follow_supervisor()
name = f"{os.environ.get('LABELAPP_PROCESS', 'web')}-{os.getpid()}"
beat_heart("web", name, address=os.environ.get("LABELAPP_ADDRESS", ""))
