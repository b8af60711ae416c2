"""Drift detection on arrays, without Kafka: the detectors that the agents run.

A detector of your own implements `Detector`; `dump_state` and `load_state` turn its state into bytes and
back.

>>> import numpy as np
>>> from driftloop.drift import Batch, OnlineDrift, Opened, Profile
>>> rng = np.random.default_rng(5)
>>> drift = OnlineDrift(Profile.of({"age": rng.normal(40, 9, 5_000)}, scores=rng.random(5_000)))
>>> age = np.append(rng.normal(40, 9, 1_000), rng.normal(52, 9, 1_000))
>>> found = drift.update(Batch({"age": age}, scores=rng.random(2_000), at=np.arange(2_000)))
>>> [episode.column for episode in found if isinstance(episode, Opened)]
['age']
"""

from driftloop.mlops_core.drift import (
    Batch,
    Closed,
    ConceptAlarm,
    ConceptClosed,
    Measured,
    OnlineDrift,
    Opened,
    PairClosed,
    PairOpened,
    Profile,
)
from driftloop.mlops_core.drift.detector import SCALE, Alarm, Detector, DetectorFactory
from driftloop.mlops_core.drift.serialization import dump_state, load_state

__all__ = (
    "SCALE",
    "Alarm",
    "Batch",
    "Closed",
    "ConceptAlarm",
    "ConceptClosed",
    "Detector",
    "DetectorFactory",
    "Measured",
    "OnlineDrift",
    "Opened",
    "PairClosed",
    "PairOpened",
    "Profile",
    "dump_state",
    "load_state",
)
