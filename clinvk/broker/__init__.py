"""All that is Celery, on both sides."""
