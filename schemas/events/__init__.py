"""The control plane: what happened, in the past tense, and what caused it.

Every event carries an envelope: `id` (follows from its cause), `type`, `at` (when, in the time of the
data), `model`, `caused_by` (the id of the event before it) and `schema_version`. Walking `caused_by`
leads from a rollback to the window of predictions that began it.
"""

from driftloop.schemas.events.alerts import EVERY_MODEL, AlertRaised
from driftloop.schemas.events.drift import (
    ColumnDrift,
    ColumnsChanged,
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    DriftState,
    PairDrift,
)
from driftloop.schemas.events.envelope import Event, Part, Span
from driftloop.schemas.events.performance import (
    Outcome,
    PerformanceEstimated,
    PerformanceMeasured,
    PostStratified,
    Range,
)
from driftloop.schemas.events.rollout import (
    DeployRequested,
    ModelRegistered,
    Resources,
    RolloutAction,
    RolloutAdvanced,
    RolloutCommanded,
    RolloutEvent,
    RolloutFailed,
    RolloutHeld,
    RolloutObstructed,
    RolloutPerformed,
    RolloutPhase,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
    VerdictEvidence,
)
from driftloop.schemas.events.selection import (
    Agreement,
    AgreementMeasured,
    ChallengerPassedOver,
    ChallengerProven,
    EvidenceMeasured,
    MemberEvidence,
    PairEvidence,
    PoolChanged,
)
from driftloop.schemas.events.traffic import LATENCY_BOUNDS, Traffic, TrafficMeasured, latency_bucket
from driftloop.schemas.events.training import (
    GateEvidence,
    RetrainRefused,
    RetrainRequested,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
    TrainingStarted,
)

AnyEvent = (
    DriftMeasured
    | DriftDetected
    | DriftResolved
    | ColumnsChanged
    | PerformanceMeasured
    | PerformanceEstimated
    | TrafficMeasured
    | RetrainRequested
    | RetrainRefused
    | TrainingStarted
    | TrainingCompleted
    | TrainingRefused
    | TrainingFailed
    | ModelRegistered
    | DeployRequested
    | RolloutCommanded
    | RolloutStarted
    | RolloutPerformed
    | RolloutObstructed
    | RolloutAdvanced
    | RolloutHeld
    | RolloutPromoted
    | RolloutRolledBack
    | RolloutFailed
    | EvidenceMeasured
    | AgreementMeasured
    | ChallengerProven
    | PoolChanged
    | ChallengerPassedOver
    | AlertRaised
)

__all__ = (
    "EVERY_MODEL",
    "LATENCY_BOUNDS",
    "Agreement",
    "AgreementMeasured",
    "AlertRaised",
    "AnyEvent",
    "ChallengerPassedOver",
    "ChallengerProven",
    "ColumnDrift",
    "ColumnsChanged",
    "DeployRequested",
    "DriftDetected",
    "DriftKind",
    "DriftMeasured",
    "DriftResolved",
    "DriftState",
    "Event",
    "EvidenceMeasured",
    "GateEvidence",
    "MemberEvidence",
    "ModelRegistered",
    "Outcome",
    "PairDrift",
    "PairEvidence",
    "Part",
    "PerformanceEstimated",
    "PerformanceMeasured",
    "PoolChanged",
    "PostStratified",
    "Range",
    "Resources",
    "RetrainRefused",
    "RetrainRequested",
    "RolloutAction",
    "RolloutAdvanced",
    "RolloutCommanded",
    "RolloutEvent",
    "RolloutFailed",
    "RolloutHeld",
    "RolloutObstructed",
    "RolloutPerformed",
    "RolloutPhase",
    "RolloutPromoted",
    "RolloutRolledBack",
    "RolloutStarted",
    "Span",
    "Traffic",
    "TrafficMeasured",
    "TrainingCompleted",
    "TrainingFailed",
    "TrainingRefused",
    "TrainingStarted",
    "VerdictEvidence",
    "latency_bucket",
)
