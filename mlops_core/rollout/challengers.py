"""One model's challengers: which versions are compared, their paired losses, and which version is proven.

Registered versions join the pool; labelled rows move its weights and proofs; a proven version is proposed for
a rollout. Versions that cannot be scored here (their features don't travel, or the registry can't give the
model) are proposed at once, for a canary that its own labels judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driftloop.mlops_core.rollout.label_verdict import version_name
from driftloop.mlops_core.rollout.selection import Pool, Span
from driftloop.schemas import ids
from driftloop.schemas.events import (
    AgreementMeasured,
    ChallengerPassedOver,
    ChallengerProven,
    Event,
    EvidenceMeasured,
    ModelRegistered,
    PairEvidence,
    PoolChanged,
    RolloutFailed,
    RolloutPromoted,
    RolloutRolledBack,
    RolloutStarted,
)
from driftloop.schemas.settings import RolloutSettings
from driftloop.schemas.summaries import PairedLosses

OVERTAKING = 5.0
"""A version replaces one that is proposed already when its weight is so many times as large."""


@dataclass
class Challengers:
    """State of one model's comparison of versions."""

    model: str
    pool: Pool = field(default_factory=Pool)
    champion: str | None = None
    previous: str | None = None
    canary: str | None = None
    """The version that a rollout gives traffic to."""
    proposed: str | None = None
    """The version that was proposed last and whose rollout has not ended."""
    origins: dict[str, str] = field(default_factory=dict)
    """Version -> id of the event that registered it."""
    by_hand: list[str] = field(default_factory=list)
    """Versions that only a person deploys (`rollout` is `manual`)."""
    span: Span | None = None
    """Rows that wait until there are enough for a span."""
    unscored: dict[str, str] = field(default_factory=dict)
    """Version -> the reason why it can't be scored."""
    labelled: int = 0
    """Labelled rows in all spans so far."""


def handle(known: Challengers, event: Event, settings: RolloutSettings) -> list[Event]:
    """Events that follow from a registration or from the end of a rollout; `known` is changed."""
    match event:
        case ModelRegistered():
            return _on_registered(known, event, settings)
        case RolloutStarted():
            known.canary = event.version
            known.pool.admit(event.version)
            return [_pool(known, event, f"{version_name(event.version)} is being rolled out")]
        case RolloutPromoted():
            return _on_promoted(known, event)
        case RolloutRolledBack() | RolloutFailed():
            known.canary = None
            if event.version == known.proposed:
                known.proposed = None
            # Topics have no order between them: its registration may come later, and is no news then.
            known.origins.setdefault(event.version, event.rollout)
            if event.version != known.champion:
                _forget(known, event.version)
            return [_pool(known, event, f"{version_name(event.version)} left: {event.sentence}")]
        case _:
            return []


def observe(known: Challengers, losses: PairedLosses, settings: RolloutSettings) -> list[Event]:
    """Events that follow from labelled rows of one partition; `known` is changed."""
    if not losses.agreement:  # a comparison of served scores says nothing about the others
        known.unscored = {
            version: reason for version, reason in losses.unscored.items() if version in known.pool.versions
        }
    unmeasurable = [*_agreement(losses), *_unmeasurable(known, losses, settings)]
    if not losses.rows or known.champion is None:
        return unmeasurable
    span = Span.of(losses)
    events: list[Event] = []
    if known.span is not None and known.span.versions != span.versions:
        events += _close_span(known, losses, settings)  # the pool changed
    known.span = span if known.span is None else known.span.plus(span)
    if known.span.rows >= settings.span_labels:
        events += _close_span(known, losses, settings)
    return [*unmeasurable, *events]


def _agreement(losses: PairedLosses) -> list[Event]:
    return [
        AgreementMeasured(
            id=ids.derive(losses.model, "agreement", version, *_source(losses)),
            at=losses.until,
            model=losses.model,
            version=version,
            agreement=agreement,
        )
        for version, agreement in losses.agreement.items()
    ]


def _source(losses: PairedLosses) -> tuple[str | int, ...]:
    """Topic, partition and first offset of its rows, which identify the message."""
    return losses.span.topic, losses.span.partition, losses.span.first


def dump(known: Challengers) -> dict[str, Any]:
    """The state as values that JSON can hold."""
    fields = {**vars(known), "pool": known.pool.dump(), "span": None}
    if known.span is not None:
        span = vars(known.span)
        fields["span"] = {
            **span,
            "sums": span["sums"].tolist(),
            "products": span["products"].ravel().tolist(),
        }
    return fields


def load(fields: Mapping[str, Any]) -> Challengers:
    """The state that `dump` returned."""
    known = Challengers(**{**fields, "pool": Pool.load(fields["pool"]), "span": None})
    if fields["span"] is not None:
        known.span = Span.of(PairedLosses.model_construct(**fields["span"]))
    return known


def _on_registered(known: Challengers, event: ModelRegistered, settings: RolloutSettings) -> list[Event]:
    if event.version in known.origins:
        return []
    known.origins[event.version] = event.id
    if event.rollout == "manual":
        known.by_hand.append(event.version)
    if event.gate is not None and event.gate.champion is not None:
        if known.champion is None:  # it was champion before its promotion could be read here
            known.champion = event.gate.champion
            known.pool.admit(event.gate.champion)
        known.pool.admit(event.version)
        known.pool.credit(event.version, event.gate.champion, event.gate, settings)
    known.pool.admit(event.version)
    return [
        *_evict_weakest(known, event, settings),
        _pool(known, event, f"{version_name(event.version)} was registered"),
    ]


def _evict_weakest(known: Challengers, event: ModelRegistered, settings: RolloutSettings) -> list[Event]:
    """Remove versions of the smallest weight until the pool holds `rollout.pool`; returns the events."""
    events: list[Event] = []
    kept = [known.champion, known.previous, known.canary, known.proposed, event.version]
    while len(known.pool.members) > settings.pool:
        weakest = known.pool.weakest([version for version in kept if version])
        if weakest is None:
            break
        weight = known.pool.members_evidence()[weakest].weight
        _forget(known, weakest)
        events.append(
            ChallengerPassedOver.following(
                event,
                id=ids.derive(event.id, "ChallengerPassedOver", weakest),
                version=weakest,
                by=event.version,
                sentence=f"{version_name(weakest)} is no longer compared: {version_name(event.version)} was "
                f"registered, the pool holds {settings.pool} versions (rollout.pool), and "
                f"{version_name(weakest)} had the smallest weight ({weight:.2%})",
            )
        )
    return events


def _forget(known: Challengers, version: str) -> None:
    known.pool.remove(version)
    known.span = None
    known.by_hand = [kept for kept in known.by_hand if kept != version]
    known.previous = None if known.previous == version else known.previous


def _on_promoted(known: Challengers, event: RolloutPromoted) -> list[Event]:
    known.previous = known.champion if known.champion != event.version else known.previous
    known.champion = event.version
    known.canary = known.proposed = None
    known.by_hand = [version for version in known.by_hand if version != event.version]
    known.pool.admit(event.version)
    known.pool.restart(event.version)
    return [_pool(known, event, f"{version_name(event.version)} is champion")]


def _close_span(known: Challengers, losses: PairedLosses, settings: RolloutSettings) -> list[Event]:
    """Update weights and proofs with the complete span; returns the evidence and a proven challenger."""
    span, champion = known.span, known.champion
    assert span is not None
    assert champion is not None
    known.span = None
    known.labelled += span.rows
    known.pool.observe(span, champion, settings, losses.loss)
    pairs = known.pool.pairs_evidence(champion, settings)
    weights = known.pool.members_evidence()
    leader = max(weights, key=lambda version: weights[version].weight)
    measured = EvidenceMeasured(
        id=ids.derive(known.model, "evidence", known.labelled, *known.pool.versions),
        at=span.until,
        model=known.model,
        champion=champion,
        leader=leader,
        strategy=settings.strategy,
        rows=span.rows,
        labelled=known.labelled,
        since=span.since,
        until=span.until,
        loss=losses.loss,
        members=weights,
        pairs=pairs,
        unscored=known.unscored,
        sentence=_sentence(champion, leader, weights[leader].weight, pairs, settings),
    )
    return [measured, *_propose(known, measured, settings)]


def _propose(known: Challengers, measured: EvidenceMeasured, settings: RolloutSettings) -> list[Event]:
    if settings.evidence == "canary":
        return []  # each version had its canary when it was registered
    proven = known.pool.proven(measured.champion, settings, known.by_hand)
    if proven is None or proven == known.proposed:
        return []
    if known.proposed in measured.members:
        before = measured.members[known.proposed or ""].weight
        if measured.members[proven].weight < OVERTAKING * before:
            return []
    known.proposed = proven
    pair = measured.pairs.get(proven)
    return [
        ChallengerProven(
            id=ids.derive(measured.id, "ChallengerProven", proven),
            at=measured.at,
            model=known.model,
            caused_by=known.origins.get(proven, measured.id),
            version=proven,
            champion=measured.champion,
            evidence="paired",
            pair=pair,
            sentence=_proof(proven, measured.champion, pair),
        )
    ]


def _unmeasurable(known: Challengers, losses: PairedLosses, settings: RolloutSettings) -> list[Event]:
    """Where versions can't be scored, propose the newest of them for a canary, if the settings allow it."""
    if not known.unscored or settings.evidence != "auto" or known.proposed is not None:
        return []
    champion = known.champion
    candidates = [
        version
        for version in known.pool.versions
        if version not in (champion, known.previous, *known.by_hand)
        and (version in known.unscored or champion in known.unscored)
    ]
    if champion is None or not candidates:
        return []
    version = candidates[-1]
    known.proposed = version
    reason = known.unscored.get(version) or known.unscored.get(champion, "")
    sentence = f"{version_name(version)} is judged by the labels of its own requests: {reason}"
    return [
        ChallengerProven(
            id=ids.derive(known.model, "ChallengerProven", version, "canary", *_source(losses)),
            at=losses.until,
            model=known.model,
            caused_by=known.origins.get(version),
            version=version,
            champion=champion,
            evidence="canary",
            sentence=sentence,
        )
    ]


def _pool(known: Challengers, cause: Event, sentence: str) -> PoolChanged:
    return PoolChanged.following(
        cause,
        versions=known.pool.versions,
        champion=known.champion,
        canary=known.canary,
        sentence=sentence,
    )


def _sentence(
    champion: str, leader: str, weight: float, pairs: Mapping[str, PairEvidence], settings: RolloutSettings
) -> str:
    """Which version leads, by how much, and how many labels a proof still needs."""
    if leader == champion:
        return f"champion {version_name(champion)} leads with {weight:.0%} of the weight"
    pair = pairs.get(leader)
    if pair is None:
        return f"{version_name(leader)} leads with {weight:.0%} of the weight"
    side = "below" if pair.gain >= 0 else "above"
    lead = (
        f"{version_name(leader)} leads with {weight:.0%} of the weight: loss {abs(pair.gain):.4f} {side} "
        f"champion {version_name(champion)}'s on {pair.rows:,} labels (gain {pair.low:+.4f} to "
        f"{pair.high:+.4f})"
    )
    if pair.proof >= settings.proof:
        return f"{lead}, proven with odds of {_odds(pair.proof)} to 1"
    missing = f"about {pair.needed:,} more labels" if pair.needed else "more labels"
    return f"{lead}; odds {_odds(pair.proof)} to 1, {settings.proof:g} to 1 needed: {missing}"


def _proof(version: str, champion: str, pair: PairEvidence | None) -> str:
    if pair is None:
        return f"{version_name(version)} predicts better than champion {version_name(champion)}"
    return (
        f"{version_name(version)} predicts better than champion {version_name(champion)}: loss "
        f"{pair.gain:.4f} lower on {pair.rows:,} labels, odds {_odds(pair.proof)} to 1"
    )


def _odds(odds: float) -> str:
    return f"{odds:.1f}" if odds < 10 else f"{min(odds, 1e6):,.0f}"
