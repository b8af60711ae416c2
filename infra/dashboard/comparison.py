"""Versions of a model's pool as labelled rows compare them: the newest evidence, and its history.

Evidence and agreement are measurements: they are on the metrics topic in their own order and don't depend on
decisions. Who serves, and which version is a canary, is joined whenever somebody looks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from driftloop.infra.dashboard.labels import VERSIONS_AT_ONCE
from driftloop.infra.dashboard.ring_buffer import Thinned, renew
from driftloop.infra.dashboard.rollouts import ENDED, Rollouts
from driftloop.infra.dashboard.views import Rollout
from driftloop.mlops_core.rollout import durations
from driftloop.mlops_core.rollout.controller_state import SMALLEST_WEIGHT
from driftloop.mlops_core.rollout.label_verdict import version_name
from driftloop.schemas import events
from driftloop.schemas.settings import RolloutSettings

LOOKS = 400
"""Looks that are kept of a model; of older ones every second is removed when there are more."""
RATE_LOOKS = 10
"""Newest looks from which the rate of labels is taken."""
FAR = 100_000
"""A proof that needs more labels than this is not foreseen."""
MOST_ODDS = 1e6
"""Odds above this are sent as this: the page says "more than"."""


@dataclass(frozen=True)
class Look:
    """Weights and pairs at one look; a pair is gain, low, high (in the unit of the loss) and proof (odds)."""

    at: int
    labelled: int
    champion: str
    weights: Mapping[str, float]
    pairs: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, event: events.EvidenceMeasured) -> "Look":
        """The event's figures, rounded."""
        return cls(
            event.until,
            event.labelled,
            event.champion,
            {version: round(one.weight, 4) for version, one in event.members.items()},
            {version: _figures(pair) for version, pair in event.pairs.items()},
        )


@dataclass(frozen=True)
class Compared:
    """A row of the table of the pool."""

    version: str
    weight: float
    loss: float | None
    """Mean loss; None before the version was scored."""
    rows: int
    pair: Sequence[float] | None
    """Gain, low, high, proof; None for the champion, and before both were scored on the same rows."""
    waits_for: str
    tone: str


@dataclass(frozen=True)
class Pool:
    """The newest evidence, in words and figures."""

    at: int
    labelled: int
    loss: str
    champion: str
    leader: str
    sentence: str
    headline: str
    """Who serves, who leads, and how far it is from a proof."""
    proof: float
    """Odds at which a challenger is proven (`rollout.proof`)."""
    versions: Sequence[Compared]
    """The champion, then the others by weight."""


class Comparison:
    """Takes in evidence and agreement in the order of their topic."""

    def __init__(self, settings: RolloutSettings) -> None:
        self.looks: Thinned[Look] = Thinned(LOOKS)
        self._settings = settings
        self._newest: events.EvidenceMeasured | None = None
        self._spans: list[tuple[int, int, int]] = []
        """Rows, since and until of the newest looks."""
        self._agreement: dict[str, events.Agreement] = {}

    def on_evidence(self, event: events.EvidenceMeasured, stamp: int) -> None:
        """A look at all versions of the pool."""
        self._newest = event
        self.looks.add(stamp, Look.of(event))
        self._spans = [*self._spans, (event.rows, event.since, event.until)][-RATE_LOOKS:]

    def on_agreement(self, event: events.AgreementMeasured) -> None:
        """Scores of a canary that were computed again."""
        known = self._agreement.get(event.version, events.Agreement())
        renew(self._agreement, event.version, known + event.agreement, VERSIONS_AT_ONCE)

    def agreement(self, version: str) -> events.Agreement | None:
        """All scores of a version that were computed again; None where none was."""
        return self._agreement.get(version)

    def pair(self, version: str) -> Sequence[float] | None:
        """The version against the champion: gain, low, high, proof; None where they aren't compared."""
        found = None if self._newest is None else self._newest.pairs.get(version)
        return None if found is None else _figures(found)

    def pool(self, rollouts: Rollouts) -> Pool | None:
        """The newest evidence, joined with who serves; None before there is any."""
        event = self._newest
        if event is None:
            return None
        order = sorted(event.members, key=lambda one: (one != event.champion, -event.members[one].weight))
        return Pool(
            at=event.until,
            labelled=event.labelled,
            loss=event.loss,
            champion=event.champion,
            leader=event.leader,
            sentence=event.sentence + self._at_this_rate(event),
            headline=self._headline(event, rollouts),
            proof=self._settings.proof,
            versions=[self._row(event, version, rollouts) for version in order],
        )

    def _at_this_rate(self, event: events.EvidenceMeasured) -> str:
        """How long the labels take that the event's sentence says are missing; empty where it names none."""
        pair = event.pairs.get(event.leader)
        if pair is None or not pair.needed or pair.proof >= self._settings.proof:
            return ""
        time = self._time_for(pair.needed)
        return f", {time} at today's rate" if time else ""

    def _time_for(self, labels: int) -> str:
        """How long so many labels take at the rate of the newest looks; empty where that is unknown."""
        rows = sum(rows for rows, _, _ in self._spans)
        lasted = max(until for *_, until in self._spans) - min(since for _, since, _ in self._spans)
        return durations.duration(labels / rows * lasted / 1000) if rows and lasted > 0 else ""

    def _row(self, event: events.EvidenceMeasured, version: str, rollouts: Rollouts) -> Compared:
        member, pair = event.members[version], event.pairs.get(version)
        waits_for, tone = self._waits_for(event, version, rollouts)
        return Compared(
            version=version,
            weight=round(member.weight, 4),
            loss=round(member.loss, 6) if member.rows else None,
            rows=member.rows,
            pair=None if pair is None else _figures(pair),
            waits_for=waits_for,
            tone=tone,
        )

    def _waits_for(self, event: events.EvidenceMeasured, version: str, rollouts: Rollouts) -> tuple[str, str]:
        """What has to come before the version serves, and a tone."""
        serves, canary = rollouts.champion or event.champion, on_its_way(rollouts)
        if version == serves:
            return "champion" if event.strategy == "blend" else "serves", "good"
        if canary is not None and canary.version == version:
            return f"requests: {_share(canary)}", "info"
        if version in event.unscored:
            return f"not scored: {event.unscored[version]}", "warn"
        return self._missing(event, version)

    def _missing(self, event: events.EvidenceMeasured, version: str) -> tuple[str, str]:
        pair, weight = event.pairs.get(version), event.members[version].weight
        if pair is None:
            return "labels", "plain"
        if pair.high < 0:
            return "a change of the data: surely worse on average", "plain"
        if pair.proof < self._settings.proof:
            return (self._labels(pair.needed) if pair.needed and pair.gain > 0 else "a gain"), "plain"
        ratio = self._settings.weight_ratio
        if weight <= ratio * event.members[event.champion].weight:
            return f"a weight of {ratio:g} times that of {version_name(event.champion)}", "plain"
        return "a rollout: it is proven", "info"

    def _labels(self, needed: int) -> str:
        if needed > FAR:
            return f"more than {FAR:,} labels"
        time = self._time_for(needed)
        return f"about {_two_digits(needed):,} labels" + (f" ({time})" if time else "")

    def _headline(self, event: events.EvidenceMeasured, rollouts: Rollouts) -> str:
        serves, canary = rollouts.champion or event.champion, on_its_way(rollouts)
        leads = f"{event.members[event.leader].weight:.0%} of the weight".replace("%", " %")
        blend = _versions_in_blend(event.members.values()) if event.strategy == "blend" else 0
        first = f"a blend of {blend} versions answers" if blend > 1 else f"{version_name(serves)} serves"
        if event.leader == serves and blend < 2:
            told = f"{first} and leads with {leads}"
        else:
            told = (
                f"{first}; {version_name(event.leader)} leads with {leads}{self._distance(event, rollouts)}"
            )
        return told if canary is None else f"{told}; {version_name(canary.version)} is {_share(canary)}"

    def _distance(self, event: events.EvidenceMeasured, rollouts: Rollouts) -> str:
        """How far the leader is from a proof; empty where it serves, or is on its way."""
        pair, canary = event.pairs.get(event.leader), on_its_way(rollouts)
        if pair is None or event.leader in (rollouts.champion, canary and canary.version):
            return ""
        if pair.proof >= self._settings.proof:
            return f", {odds(pair.proof)} to 1"
        return f", {self._labels(pair.needed)} to a proof" if pair.needed else ", not proven"


def on_its_way(rollouts: Rollouts) -> Rollout | None:
    """The rollout in progress."""
    now = rollouts.current
    return now if now is not None and now.phase not in ENDED else None


def odds(value: float) -> str:
    """Odds with the digits that count."""
    if value >= MOST_ODDS:
        return f"more than {MOST_ODDS:,.0f}"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _two_digits(labels: int) -> int:
    """Two digits: an estimate promises no more."""
    return int(float(f"{labels:.2g}"))


def _share(canary: Rollout) -> str:
    return f"canary at {canary.weight} %" if canary.weight else "warming up"


def _versions_in_blend(members: Iterable[events.MemberEvidence]) -> int:
    """Versions that take part in the answer of a blend."""
    return sum(one.weight >= SMALLEST_WEIGHT for one in members)


def _figures(pair: events.PairEvidence) -> Sequence[float]:
    return [*(float(f"{one:.4g}") for one in (pair.gain, pair.low, pair.high, min(pair.proof, MOST_ODDS)))]
