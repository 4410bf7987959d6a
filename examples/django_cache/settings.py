"""Settings of a project that only answers from its cache."""

ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "app"
CACHES = {"default": {"BACKEND": "eggcluster.integrations.django.Cache", "TIMEOUT": 60}}  # seconds
USE_TZ = True
TIME_ZONE = "UTC"  # Django sets it for the whole process: in thread mode for all workers
