"""Stage one of drift: bins each partition's predictions against the reference of the version that answered."""

import base64
from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from agents.reading import decoded
from mlops_core.drift.microbatches import Summariser
from mlops_core.errors import Unknown
from mlops_core.ports import ModelReader
from schemas.events import Span
from schemas.records import AnyRecord, Prediction, PredictionBatch
from schemas.stages import DriftSummary
from streams import codec, topics
from streams.chunks import Arrived, Chunk
from streams.consume import parked
from streams.routes import Emitted

Key = tuple[str, str]
"""Model and version."""
Summarisers = dict[Key, Summariser]


class SummarisingAgent:
    """One summariser a version; what is left over from a chunk waits for the next one."""

    name = "summarising"
    topics = (topics.PREDICTIONS,)

    def __init__(self, registry: ModelReader) -> None:
        self._registry = registry
