"""Many kill -9s under load; minutes (`make chaos`)."""
