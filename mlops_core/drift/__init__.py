"""Online drift detection: one file a method, each with its source; usable on arrays without Kafka.

`OnlineDrift` is all of it in one; what it finds are `Opened`, `Closed`, `Measured`, `PairOpened`,
`PairClosed`, `ConceptAlarm` and `ConceptClosed`.
"""

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.concept import ConceptAlarm, ConceptClosed, ConceptDrift
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.online import Batch, OnlineDrift
from driftloop.mlops_core.drift.verdicts import Closed, Measured, Opened, PairClosed, PairOpened

__all__ = (
    "Batch",
    "Closed",
    "ConceptAlarm",
    "ConceptClosed",
    "ConceptDrift",
    "DistributionDrift",
    "Measured",
    "OnlineDrift",
    "Opened",
    "PairClosed",
    "PairOpened",
    "Profile",
)
