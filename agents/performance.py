"""Stage two of labels: prequential outcomes per version, and concept drift, per model."""

import base64
from dataclasses import dataclass, field

import numpy as np
import orjson

from agents.reading import decoded, staged
from mlops_core.drift.concept import ConceptDrift
from mlops_core.training import evaluation
from schemas import ids
from schemas.events import DriftDetected, DriftKind, Outcome, PerformanceMeasured, Span
from schemas.settings import PerformanceSettings
from schemas.stages import Outcomes
from streams import topics
from streams.agent import WithoutEffects
from streams.chunks import Chunk
from streams.routes import Emitted
