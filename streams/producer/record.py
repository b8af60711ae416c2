"""A message on its way to Kafka."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outgoing:
    """One message on its way to Kafka; `topic` is the topic's full name in the cluster."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int | None = None
    """None: chosen by the key."""
