"""What a machine of the loop shows and keeps."""

from pathlib import Path

from driftloop.schemas.settings.types import Days, Folder, Group, Host, Hours, Port, Positive


class DashboardSettings(Group):
    """The live page."""

    host: Host = "127.0.0.1"
    port: Port = 8050


class MetricsSettings(Group):
    """Where processes of agents answer `GET /metrics`."""

    host: Host = "127.0.0.1"
    port: Port | None = None
    """0 takes a free port and prints it; None: nowhere. Each process of a machine needs a port of its own."""


class StoreSettings(Group):
    """The offline store of labelled examples."""

    folder: Folder = Path(".driftloop/store")
    """Parquet files, one folder a model; may be shared by machines if its locks are (flock)."""
    segment_rows: Positive = 1000
    """Rows that fill a segment: 50-200 kB of Parquet."""
    segment_hours: Hours = 1.0
    """Hours (of the data) after which a segment is closed with fewer rows: how stale a training may be.
    Such a segment lasts a second of Kafka's time at least: replayed data passes an hour every few rows."""
    file_rows: Positive = 100_000
    """Rows that fill a file of many segments: 5-20 MB with 20 features, written anew within half a second."""
    file_days: Days = 30.0
    """Days (of the data) after which a file is full with fewer rows: rows of a file leave together, so they
    may stay so much longer than `retention_days`."""
    retention_days: Days | None = None
    """Files whose newest label is older than this, counted back from the newest label of the model, are
    deleted. None keeps everything."""
