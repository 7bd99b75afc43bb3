"""Settings from the environment; without any, those of the embedded servers on this machine alone."""

import os
from importlib.util import find_spec
from pathlib import Path

import dj_database_url
import environ
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from labelapp import logs
from labelapp.embedded import Services
from labelapp.launching import read_launcher

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
embedded = Services()

# LOCAL: a person's own machine, reached over loopback; `manage.py` says so unless it serves other hosts.
DEBUG = env.bool("DEBUG", default=False)
LOCAL = env.bool("LABELAPP_LOCAL", default=not env("DATABASE_URL", default=""))
PRODUCTION = not DEBUG and not LOCAL


def required_in_production(name: str, fallback) -> str:
    """Read a variable; production without it stops here, elsewhere the fallback serves."""
    if value := env(name, default=""):
        return value
    if PRODUCTION:
        raise ImproperlyConfigured(f"{name} is not set: production needs it. On your own machine set LABELAPP_LOCAL=1.")
    return fallback()


# Who we are and who may ask
LOOPBACK = "localhost,127.0.0.1,[::1],testserver"
SECRET_KEY = required_in_production("SECRET_KEY", embedded.secret_key)
ALLOWED_HOSTS = required_in_production("ALLOWED_HOSTS", lambda: LOOPBACK).split(",")
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
ROOT_URLCONF = "labelapp.urls"
ASGI_APPLICATION = "labelapp.asgi.application"
WSGI_APPLICATION = "labelapp.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "labelapp",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "csp",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "labelapp.compression.CompressedPages",
    "labelapp.policy.PolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "labelapp.accounts.sessions.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "labelapp.accounts.context.project",
            ]
        },
    }
]

# Database. A pool serves the web only: it must not be carried over the fork of a Celery worker.
if url := env("DATABASE_URL", default=""):
    DATABASES = {"default": dj_database_url.parse(url)}
else:
    DATABASES = {"default": {"NAME": "labelapp", "USER": "postgres", "HOST": str(embedded.run)}}
DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
DATABASES["default"] |= {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
DATABASES["default"].setdefault("OPTIONS", {})["connect_timeout"] = 5
# Lets models.prepared keep statements on a connection; a pooler in between that cannot carry them needs this off.
DATABASES["default"]["OPTIONS"]["prepare_threshold"] = 1 if env.bool("DB_PREPARE", default=True) else None
if host := DATABASES["default"]["OPTIONS"].pop("host", ""):  # from ?host=/directory, a unix socket
    DATABASES["default"]["HOST"] = host
if env.bool("DB_POOL", default=False):
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": env.int("DB_POOL_MAX", default=16)}
if test_name := env("LABELAPP_TEST_DATABASE", default=""):
    DATABASES["default"]["TEST"] = {"NAME": test_name}

# Broker. It rings; the rows decide. No results are kept, and nothing but JSON is read.
NAMESPACE = env("LABELAPP_NAMESPACE", default="")  # set by test runs, so that they share a broker with nobody
CELERY_BROKER_URL = env("BROKER_URL", default="") or embedded.broker_url
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_TIMEOUT = 3
CELERY_BROKER_TRANSPORT_OPTIONS = {}
if CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": NAMESPACE, "socket_connect_timeout": 3}
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2}
CELERY_TASK_DEFAULT_QUEUE = f"{NAMESPACE}default"
TRAINING_QUEUE = f"{NAMESPACE}training"
CELERY_TASK_ROUTES = {  # what starts a trainer; a dry run measures the machine that will train
    "labelapp.tasks.supervise_round": {"queue": TRAINING_QUEUE},
    "labelapp.tasks.run_estimate": {"queue": TRAINING_QUEUE},
}
TRAINING_THREADS = env.int("TRAINING_THREADS", default=os.cpu_count() or 1)
try:
    TRAINING_LAUNCHER = read_launcher(env("TRAINING_LAUNCHER", default="local"))
except ValueError as error:
    raise ImproperlyConfigured(str(error)) from error
# Devices that rounds reserve, as CUDA_VISIBLE_DEVICES names them; none: every trainer sees what there is.
TRAINING_DEVICE_NAMES = env.list("TRAINING_DEVICE_NAMES", default=[])
TRAINING_DEVICES_HOST = env("TRAINING_DEVICES_HOST", default="")  # where they are not in the worker's machine
ENGINE_DEVICES = env.list("ENGINE_DEVICES", default=[])  # serving's own, which no round ever gets
if shared := sorted({*TRAINING_DEVICE_NAMES} & {*ENGINE_DEVICES}):
    both = ", ".join(shared)
    raise ImproperlyConfigured(f"TRAINING_DEVICE_NAMES and ENGINE_DEVICES share {both}: training never evicts serving.")
TRAINING_SILENT_MINUTES = env.float("TRAINING_SILENT_MINUTES", default=360)  # then a stage hangs; 0: it may
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "reconcile": {"task": "labelapp.tasks.reconcile", "schedule": 15.0, "options": {"expires": 30}},
    "change_left_behind": {
        "task": "labelapp.tasks.change_left_behind", "schedule": 60.0, "options": {"expires": 60}
    },
    "launch_scheduled": {"task": "labelapp.tasks.launch_scheduled", "schedule": 60.0, "options": {"expires": 60}},
    "settle_trials": {"task": "labelapp.tasks.settle_trials", "schedule": 30.0, "options": {"expires": 30}},
    "deliver": {"task": "labelapp.tasks.deliver", "schedule": 15.0, "options": {"expires": 15}},
    "count_queues": {"task": "labelapp.tasks.count_queues", "schedule": 30.0, "options": {"expires": 30}},
}

# Cache: where allauth counts failed logins. Without Redis each process counts for itself.
CACHE_URL = env("CACHE_URL", default="") or CELERY_BROKER_URL
if CACHE_URL.startswith(("redis", "unix:")):
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": CACHE_URL.replace("redis+socket:", "unix:"),
            "KEY_PREFIX": f"{NAMESPACE}labelapp",
            "OPTIONS": {"socket_connect_timeout": 3, "socket_timeout": 3},
        }
    }

# People
AUTH_USER_MODEL = "labelapp.User"
AUTHENTICATION_BACKENDS = ["labelapp.accounts.backend.MemberBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "labelapp.accounts.adapter.ClosedSignup"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))

# What the browser may do
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SESSION_ENGINE = "labelapp.accounts.sessions"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("COOKIE_SECURE", default=PRODUCTION)
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=0)
if env.bool("TRUST_PROXY", default=False):  # only behind a proxy that sets this header itself
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Files
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env("STATIC_ROOT", default=str(embedded.root / "static")))
HASHED_STATIC = not DEBUG and env.bool("HASHED_STATIC", default=PRODUCTION)  # `up` sets it and collects the files
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if HASHED_STATIC
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "labelapp.joined.JoinedFinder",
]
WHITENOISE_USE_FINDERS = not HASHED_STATIC
ARTIFACT_DIR = Path(env("ARTIFACT_DIR", default=str(embedded.root / "artifacts")))
# Behind it a bucket that several machines share, as s3://name/prefix; credentials as AWS_* variables.
ARTIFACT_STORE = env("ARTIFACT_STORE", default="")
ARTIFACT_STORE_ENDPOINT = env("ARTIFACT_STORE_ENDPOINT", default="")  # of a server that is not Amazon's
ARTIFACT_STATE_MINUTES = env.float("ARTIFACT_STATE_MINUTES", default=5)  # between two states of a stage in the bucket
if ARTIFACT_STORE and not ARTIFACT_STORE.startswith("s3://"):
    raise ImproperlyConfigured(f"ARTIFACT_STORE is {ARTIFACT_STORE!r}: name a bucket, as s3://name/prefix.")
if ARTIFACT_STORE and find_spec("obstore") is None:
    raise ImproperlyConfigured("ARTIFACT_STORE needs the package obstore: pip install obstore, see constraints.txt.")
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024

# The engine answers on a unix socket of ours, unless ENGINE_URL names an upstream.
ENGINE_URL = env("ENGINE_URL", default="")
ENGINE_SOCKET = env("ENGINE_SOCKET", default=str(embedded.run / "engine.sock"))
ENGINE_THREADS = env.int("ENGINE_THREADS", default=max(1, (os.cpu_count() or 1) // 2))  # training needs the others
ENGINE_ACTIVE_ROWS = env.int("ENGINE_ACTIVE_ROWS", default=16)  # answers decoded together
ENGINE_WAITING_ROWS = env.int("ENGINE_WAITING_ROWS", default=64)  # more than these at once: 429
ENGINE_MEMORY_MB = env.int("ENGINE_MEMORY_MB", default=0)  # for models; 0: half of the machine's
# Models of others for live chat: hosts ("host" or "host:port") that an admin may name; no redirect is followed.
UPSTREAM_HOSTS = env.list("UPSTREAM_HOSTS", default=["localhost", "127.0.0.1", "[::1]"] if LOCAL else [])
UPSTREAM_SECONDS = env.int("UPSTREAM_SECONDS", default=30)  # of silence after which one of them has failed
# Hosts to which an admin may have the ends of rounds told; no redirect is followed there either.
WEBHOOK_HOSTS = env.list("WEBHOOK_HOSTS", default=["localhost", "127.0.0.1", "[::1]"] if LOCAL else [])
API_REQUESTS_PER_MINUTE = env.int("API_REQUESTS_PER_MINUTE", default=600)  # a key, in each web process

# API
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "labelapp.accounts.keys.ApiKeyAuthentication",  # first: its challenge makes a missing key a 401, not a 403
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
SPECTACULAR_SETTINGS = {"TITLE": "Labelapp", "VERSION": "0.1"}

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]  # those with texts of ours in locale/: see docs/languages.md
LOCALE_PATHS = [BASE_DIR / "locale"]
LOGGING = logs.config(level=env("LOG_LEVEL", default="INFO"), json=PRODUCTION)
