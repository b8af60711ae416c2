"""Online drift detection: one file a method, each with its source; usable on arrays without Kafka.

`OnlineDrift` is all of it in one; what it finds are `Opened`, `Closed`, `Measured`, `PairOpened`,
`PairClosed`, `ConceptAlarm` and `ConceptClosed`.
"""

from mlops_core.data.profile import Profile
from mlops_core.drift.concept import ConceptAlarm, ConceptClosed, ConceptDrift
from mlops_core.drift.distribution import DistributionDrift
from mlops_core.drift.online import Batch, OnlineDrift
from mlops_core.drift.verdicts import Closed, Measured, Opened, PairClosed, PairOpened

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
