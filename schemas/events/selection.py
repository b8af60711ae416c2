"""Which version of a model predicts best, as labels say: evidence, proofs, and who is compared."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from driftloop.schemas import topics
from driftloop.schemas.events.envelope import Event, Part
from driftloop.schemas.records import Millis, Name


class Agreement(Part):
    """Scores that a version served against scores recomputed from the same features."""

    rows: int = 0
    """Scores compared."""
    disagreeing: int = 0
    """Scores that differ by more than rounding."""
    largest: float = 0.0
    """Largest difference, in the score's own unit."""

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            rows=self.rows + other.rows,
            disagreeing=self.disagreeing + other.disagreeing,
            largest=max(self.largest, other.largest),
        )


class MemberEvidence(Part):
    """One version of the pool."""

    weight: float
    """Fixed-share weight; those of a model's pool add up to 1."""
    loss: float
    """Mean loss on the labelled rows of `rows`."""
    rows: int
    """Labelled rows on which it was scored."""


class PairEvidence(Part):
    """One challenger against the champion, on the same labelled rows."""

    rows: int
    """Labelled rows since both are compared."""
    gain: float
    """Mean of champion loss - challenger loss."""
    low: float
    """Lower end of the always-valid interval of the gain (above 0: surely better)."""
    high: float
    """Upper end (below 0: surely worse)."""
    proof: float
    """Evidence that the challenger is better now, as odds: 20 means 20 to 1."""
    against: float
    """Evidence that the champion is better now, as odds."""
    needed: int | None = None
    """Labels until it is proven, about, if the gain stays as it is; None where it would never be."""


class EvidenceMeasured(Event):
    """Labelled rows on which every version of a model's pool was scored."""

    kafka_topic: ClassVar = topics.METRICS
    type: Literal["EvidenceMeasured"] = "EvidenceMeasured"
    champion: Name
    leader: Name
    """The version with the largest weight."""
    strategy: Literal["champion", "blend"] = "champion"
    """Whether the champion answers, or all versions by their weights."""
    rows: int
    """Labelled rows of this span."""
    labelled: int
    """Labelled rows compared since the beginning."""
    since: Millis
    until: Millis
    """Times of the first and last label of the span."""
    loss: Literal["squared error", "absolute error"]
    """What is compared: of classes the squared error of the score, of numbers |label - score|."""
    members: Mapping[str, MemberEvidence]
    pairs: Mapping[str, PairEvidence]
    """Each other version of the pool against the champion."""
    unscored: Mapping[str, str] = {}
    """Versions that could not be scored, and why: the canary's own labels judge them."""
    sentence: str


class AgreementMeasured(Event):
    """Scores that a canary served were computed again from the same features."""

    kafka_topic: ClassVar = topics.METRICS
    type: Literal["AgreementMeasured"] = "AgreementMeasured"
    version: Name
    agreement: Agreement


class ChallengerProven(Event):
    """A challenger predicts better than the champion: a rollout may begin."""

    kafka_topic: ClassVar = topics.MODELS
    type: Literal["ChallengerProven"] = "ChallengerProven"
    version: Name
    champion: Name
    evidence: Literal["paired", "canary"]
    """`paired`: both were scored on the same labelled rows. `canary`: they could not be, so the labels of the
    canary's own requests have to judge."""
    pair: PairEvidence | None = None
    sentence: str


class PoolChanged(Event):
    """The versions of a model that are scored on every labelled row, from now on."""

    kafka_topic: ClassVar = topics.POOLS
    type: Literal["PoolChanged"] = "PoolChanged"
    versions: Sequence[Name]
    champion: Name | None = None
    canary: Name | None = None
    """A version with a share of the traffic: its served scores are compared with recomputed ones."""
    sentence: str
    """What changed, and why."""


class ChallengerPassedOver(Event):
    """A version that waited will not be rolled out."""

    kafka_topic: ClassVar = topics.MODELS
    type: Literal["ChallengerPassedOver"] = "ChallengerPassedOver"
    version: Name
    by: Name | None = None
    """The version that takes its place; None where it left for another reason."""
    sentence: str
