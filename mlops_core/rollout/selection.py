"""Which version of a model leads, from the losses of all of them on every labelled row.

Two measures are kept for a *pool* of versions (the champion, its predecessors, challengers):

- *Weights by fixed share.* A version's weight is multiplied by exp(-rate x loss) per labelled row, and a
  small share of all weight is spread evenly per 100 rows. So evidence is forgotten at the pace of change, and
  an old champion that is right again can return. The weighted average of the pool's scores is a *blend*; its
  regret against the best sequence of versions is bounded (docs/selection.md).
- *Proof by restarted betting.* For an ordered pair (champion, challenger) and a bet b, the product over spans
  of exp(b x D - psi(b) x Q), with D the sum of the loss differences of a span, Q the sum of their squares and
  psi(b) = -ln(1 - b) - b, is a supermartingale wherever the challenger is no better: each factor is at most
  the fair bet 1 + b x d for d >= -1 (Fan's inequality). The product begins again at 1 whenever it falls
  below (a CUSUM in the evidence), and bets are averaged. Without an advantage, the expected number of spans
  until the average exceeds c is at least c: an *e-detector*. It may be looked at at any time.

A challenger is *proven* when its weight is `weight_ratio` times the champion's and its proof is above
`proof`. Weights alone exchange equal versions several times in 10,000 labels, proofs alone are slow after a
change; together they did so 0.1 times.

Sources: Herbster and Warmuth, "Tracking the best expert", Machine Learning 32 (1998); Fan, Grama and Liu,
"Exponential inequalities for martingales with applications", EJP 20 (2015), Proposition 4.1; Shin, Ramdas and
Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", NEJSDS 2 (2024).
"""

import base64
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.rollout.label_verdict import radius
from driftloop.schemas.events import GateEvidence, MemberEvidence, PairEvidence
from driftloop.schemas.settings import RolloutSettings
from driftloop.schemas.summaries import PairedLosses

BETS = np.array([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
"""Bets that are averaged: each is best for one ratio of gain to variance; a factor of 2 is near enough."""
PSI = -np.log1p(-BETS) - BETS
MAX_LOG_EVIDENCE = 60.0
"""Cap of the logarithm of evidence, so that evidence against a version can undo it after a change."""
SHARE_ROWS = 100
"""Labelled rows to which `rollout.share` refers."""
NEWCOMER = 0.5
"""Weight of a new member, of that of all others together: it has learned from the newest rows, which matters
after a change. Against the mean weight this gained 4 % of the cron job's gain on electricity data and 3 % on
flights, and lost 0.4 % on Agrawal and 5 % on data that do not change. Where the new version is no better, the
others lose ln(1.5) of their log weights once, which is 0.8 squared errors of the blend in all."""
TYPICAL = 4.0
"""Absolute errors are divided by this multiple of their usual size, so that a usual one is 0.25: the squared
error of a binary model that always answers 0.5."""
FADING = 0.9
"""Decay of the usual size of absolute errors from one span to the next."""


@dataclass
class Member:
    """One version of the pool."""

    version: str
    log_weight: float
    rows: int = 0
    loss: float = 0.0
    """Sum of losses, in their own unit."""


@dataclass
class Span:
    """Losses of several versions on the same rows, as arrays; spans of the same versions add up."""

    versions: tuple[str, ...]
    rows: int
    sums: Floats
    products: Floats
    since: int
    until: int

    @classmethod
    def of(cls, losses: PairedLosses) -> "Span":
        """The span of one partition's message."""
        count = len(losses.versions)
        return cls(
            tuple(losses.versions),
            losses.rows,
            np.array(losses.sums, dtype=np.float64),
            np.array(losses.products, dtype=np.float64).reshape(count, count),
            losses.since,
            losses.until,
        )

    def plus(self, other: "Span") -> "Span":
        """The span with the rows of another span of the same versions."""
        return Span(
            self.versions,
            self.rows + other.rows,
            self.sums + other.sums,
            self.products + other.products,
            min(self.since, other.since),
            max(self.until, other.until),
        )


@dataclass
class Pool:
    """Weights and proofs of one model's versions."""

    members: list[Member] = field(default_factory=list)
    proofs: Floats = field(default_factory=lambda: np.zeros((0, 0, len(BETS))))
    """Log of the evidence that column j is better than row i, per bet: shape (members, members, bets)."""
    pairs: Floats = field(default_factory=lambda: np.zeros((0, 0, 3)))
    """Rows, sum and sum of squares of loss i - loss j since both are compared: (members, members, 3)."""
    usual: float | None = None
    """Decayed mean absolute error of the champion; None before the first span, and for squared errors."""

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions, oldest member first."""
        return tuple(member.version for member in self.members)

    def index(self, version: str) -> int:
        """The version's index in all arrays."""
        return self.versions.index(version)

    @property
    def weights(self) -> Floats:
        """Weights of the members, adding up to 1: shape (members,)."""
        logs = np.array([member.log_weight for member in self.members])
        return _normalise(logs)

    def admit(self, version: str) -> None:
        """Add a version with `NEWCOMER` times the weight of all members; a member is added once."""
        if version in self.versions:
            return
        logs = np.array([member.log_weight for member in self.members])
        weight = float(np.log(NEWCOMER * np.exp(logs - logs.max()).sum()) + logs.max()) if len(logs) else 0.0
        self.members.append(Member(version, weight))
        self.proofs = _grow(self.proofs)
        self.pairs = _grow(self.pairs)

    def credit(self, version: str, champion: str, gate: GateEvidence, settings: RolloutSettings) -> None:
        """Count the rows of the gate in the proof of `version` against `champion`.

        They give at most the odds `rollout.proof`, so that weights must still agree on later labels. Losses
        above 1 (squared errors of a regression) don't count: the bets are for losses in [0, 1].
        """
        if gate.squares is None or gate.champion_loss is None or champion not in self.versions:
            return
        if max(gate.champion_loss, gate.challenger_loss) > 1 or gate.squares > gate.rows:
            return
        gain = (gate.champion_loss - gate.challenger_loss) * gate.rows
        logs = BETS * gain - PSI * gate.squares
        most = math.log(settings.proof)
        self.proofs[self.index(champion), self.index(version)] = np.clip(logs, 0.0, most)

    def remove(self, version: str) -> None:
        """Remove the version from the pool, if it is a member."""
        if version not in self.versions:
            return
        index = self.index(version)
        self.members.pop(index)
        for axis in (0, 1):
            self.proofs = np.delete(self.proofs, index, axis)
            self.pairs = np.delete(self.pairs, index, axis)

    def restart(self, champion: str) -> None:
        """Start the pairs' intervals again, as the champion is another version; proofs continue."""
        index = self.index(champion)
        self.pairs[index, :, :] = 0
        self.pairs[:, index, :] = 0

    def observe(self, span: Span, champion: str, settings: RolloutSettings, loss: str) -> None:
        """Update weights and proofs with a span; members that were not scored keep their weight."""
        scored = [version for version in span.versions if version in self.versions]
        if not span.rows or not scored:
            return
        columns = np.array([span.versions.index(version) for version in scored])
        indices = np.array([self.index(version) for version in scored])
        sums, products = span.sums[columns], span.products[np.ix_(columns, columns)]
        for index, total in zip(indices.tolist(), sums.tolist(), strict=True):
            self.members[index].rows += span.rows
            self.members[index].loss += total
        scale = self._scale(sums, scored, champion, span.rows) if loss == "absolute error" else 1.0
        sums, products = sums / scale, products / scale**2
        self._update_weights(indices, sums, span.rows, settings)
        self._update_proofs(indices, sums, products, span.rows)

    def proof(self, worse: str, better: str) -> float:
        """Odds that `better` has predicted better than `worse` recently."""
        return math.exp(self._log_proof(self.index(worse), self.index(better)))

    def proven(self, champion: str, settings: RolloutSettings, without: Collection[str] = ()) -> str | None:
        """The proven version of the largest weight, those in `without` left out; None where there is none."""
        if champion not in self.versions or len(self.members) < 2:
            return None
        weights, now = self.weights, self.index(champion)
        proven = [
            index
            for index, version in enumerate(self.versions)
            if version not in without
            and weights[index] > settings.weight_ratio * weights[now]
            and self._log_proof(now, index) > math.log(settings.proof)
        ]
        return self.members[max(proven, key=lambda index: weights[index])].version if proven else None

    def weakest(self, kept: Sequence[str]) -> str | None:
        """The member of the smallest weight that isn't in `kept`; None where all are."""
        weights = self.weights
        free = [index for index, version in enumerate(self.versions) if version not in kept]
        return self.versions[min(free, key=lambda index: weights[index])] if free else None

    def members_evidence(self) -> Mapping[str, MemberEvidence]:
        """Weights and mean losses, for an event."""
        return {
            member.version: MemberEvidence(
                weight=round(float(weight), 6), loss=member.loss / max(member.rows, 1), rows=member.rows
            )
            for member, weight in zip(self.members, self.weights, strict=True)
        }

    def pairs_evidence(self, champion: str, settings: RolloutSettings) -> Mapping[str, PairEvidence]:
        """Each other member against the champion, for an event."""
        if champion not in self.versions:
            return {}
        now = self.index(champion)
        return {
            member.version: self._pair(now, index, settings)
            for index, member in enumerate(self.members)
            if index != now and self.pairs[now, index, 0] > 1
        }

    def dump(self) -> dict[str, Any]:
        """The state as values that JSON can hold."""
        return {
            "members": [vars(member) for member in self.members],
            "proofs": _pack(self.proofs),
            "pairs": _pack(self.pairs),
            "usual": self.usual,
        }

    @classmethod
    def load(cls, fields: Mapping[str, Any]) -> "Pool":
        """The state that `dump` returned."""
        members = [Member(**member) for member in fields["members"]]
        count = len(members)
        return cls(
            members,
            _unpack(fields["proofs"], (count, count, len(BETS))),
            _unpack(fields["pairs"], (count, count, 3)),
            fields["usual"],
        )

    def _scale(self, sums: Floats, scored: Sequence[str], champion: str, rows: int) -> float:
        """The size that absolute errors are divided by: the decayed mean of the champion's earlier spans."""
        index = scored.index(champion) if champion in scored else int(np.argmin(sums))
        mean = float(sums[index]) / rows
        usual = mean if self.usual is None else self.usual
        self.usual = FADING * usual + (1 - FADING) * mean
        return max(TYPICAL * usual, 1e-12)

    def _update_weights(self, scored: Floats, sums: Floats, rows: int, settings: RolloutSettings) -> None:
        """Multiply weights by exp(-rate x loss), then spread a share of them evenly (fixed share)."""
        logs = np.array([member.log_weight for member in self.members])
        before = _normalise(logs)[scored].sum()
        logs[scored] -= settings.learning_rate * sums
        if len(scored) < len(logs):  # members that were not scored keep their weight
            after = np.exp(logs[scored] - logs[scored].max())
            others = np.setdiff1d(np.arange(len(logs)), scored)
            parts = _normalise(logs)[others]
            whole = np.empty(len(logs))
            whole[scored] = np.log(after / after.sum() * before)
            whole[others] = np.log(np.maximum(parts / max(parts.sum(), 1e-300) * (1 - before), 1e-300))
            logs = whole
        weights = _normalise(logs)
        spread = min(settings.share * rows / SHARE_ROWS, 1.0)
        weights = (1 - spread) * weights + spread / len(weights)
        for member, weight in zip(self.members, weights.tolist(), strict=True):
            member.log_weight = math.log(weight)

    def _update_proofs(self, scored: Floats, sums: Floats, products: Floats, rows: int) -> None:
        """Multiply the evidence of each ordered pair of scored members by the span's factor."""
        pairs = np.ix_(scored, scored)
        gains = sums[:, None] - sums[None, :]
        own = np.diag(products)
        squares = np.maximum(own[:, None] - 2 * products + own[None, :], 0.0)
        logs = np.maximum(self.proofs[pairs], 0.0) + BETS * gains[..., None] - PSI * squares[..., None]
        self.proofs[pairs] = np.minimum(logs, MAX_LOG_EVIDENCE)
        self.pairs[pairs] += np.stack([np.full_like(gains, rows), gains, squares], axis=-1)

    def _log_proof(self, worse: int, better: int) -> float:
        logs = self.proofs[worse, better]
        largest = float(logs.max())
        return largest + math.log(float(np.exp(logs - largest).mean()))

    def _pair(self, champion: int, challenger: int, settings: RolloutSettings) -> PairEvidence:
        rows, total, squares = self.pairs[champion, challenger].tolist()
        gain = total / rows
        spread = max(squares / rows - gain**2, 1e-12)
        half = math.sqrt(spread) * radius(rows, settings.alpha, settings.min_labels)
        proof = self._log_proof(champion, challenger)
        speed = gain**2 / (2 * spread) if gain > 0 else 0.0
        missing = max(math.log(settings.proof) - proof, 0.0)
        unit = 1.0 if self.usual is None else TYPICAL * self.usual
        return PairEvidence(
            rows=int(rows),
            gain=gain * unit,
            low=(gain - half) * unit,
            high=(gain + half) * unit,
            proof=math.exp(proof),
            against=math.exp(self._log_proof(challenger, champion)),
            needed=math.ceil(missing / speed) if speed > 1e-6 else None,
        )


def _normalise(logs: Floats) -> Floats:
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _grow(array: Floats) -> Floats:
    """The array with one more row and column of zeros."""
    return np.pad(array, ((0, 1), (0, 1), (0, 0)))


def _pack(array: Floats) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _unpack(data: str, shape: tuple[int, ...]) -> Floats:
    return np.frombuffer(base64.b64decode(data), dtype=np.float64).reshape(shape).copy()


Loss = Literal["squared error", "absolute error"]
