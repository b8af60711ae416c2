"""How labels compare a model's versions, told with the real decisions.

pool = Pooled("flights")
pool.registered(event)                        # versions join
events = pool.scored(at, since, {"2": 0.02})  # v 2 loses .02 less a row than the others
"""

from collections.abc import Mapping

import numpy as np

from driftloop.mlops_core.rollout import challengers, request_verdict
from driftloop.mlops_core.rollout.challengers import Challengers
from driftloop.mlops_core.rollout.request_statistics import StepRequests
from driftloop.schemas import ids
from driftloop.schemas.events import (
    Agreement,
    AgreementMeasured,
    ChallengerPassedOver,
    ChallengerProven,
    Event,
    EvidenceMeasured,
    Span,
    Traffic,
    TrafficMeasured,
    VerdictEvidence,
    latency_bucket,
)
from driftloop.schemas.settings import RolloutSettings
from driftloop.schemas.summaries import PairedLosses

ROWS = 100
"""Labelled rows of a window on which all versions are scored."""
LOSS, NOISE = 0.16, 0.1
"""Mean loss of a usual version, and how much the losses of two versions differ on a row."""
SECOND = 1000


class Pooled:
    """The versions of a model that are compared."""

    def __init__(self, model: str, seed: int = 7) -> None:
        self.known = Challengers(model)
        self.settings = RolloutSettings()
        self._rng = np.random.default_rng(seed)

    def heard(self, event: Event) -> list[Event]:
        """A registration or a rollout's event; the versions that make room follow."""
        return _published(challengers.handle(self.known, event, self.settings))

    def scored(self, since: int, until: int, gains: Mapping[str, float]) -> list[Event]:
        """All versions are scored on `ROWS` labelled rows; `gains`: how much less than usual one loses."""
        versions = self.known.pool.versions
        if len(versions) < 2:
            return []
        hard = self._rng.beta(1, 4, ROWS) * 5 * LOSS
        own = self._rng.normal(0, NOISE, (len(versions), ROWS))
        losses = np.clip(hard + own - np.array([[gains.get(one, 0.0)] for one in versions]), 0, 1)
        told = PairedLosses(
            model=self.known.model,
            span=Span(topic="examples", partition=0, first=until, last=until),
            loss="squared error",
            versions=versions,
            rows=ROWS,
            sums=losses.sum(axis=1).tolist(),
            products=(losses @ losses.T).ravel().tolist(),
            since=since,
            until=until,
        )
        return _published(challengers.observe(self.known, told, self.settings))


def _published(events: list[Event]) -> list[Event]:
    """Those that a page reads: the pools are on a topic for the data plane."""
    read = (EvidenceMeasured, ChallengerProven, ChallengerPassedOver)
    return [event for event in events if isinstance(event, read)]


class Requested:
    """The requests of one step of a canary, second by second."""

    def __init__(self, model: str, versions: tuple[str, str], share: int, since: int, seed: int = 7) -> None:
        """`versions`: canary and stable. `since`: wall clock (UTC, ms)."""
        self._model, self._versions = model, versions
        self._rng = np.random.default_rng(seed)
        self.now = since
        self.step = StepRequests(share=share, since=since)
        self.agreement = Agreement()

    def answered(self, seconds: int, rate: int = 40, slower: float = 1.0) -> list[Event]:
        """Requests at `rate` a second; the canary takes `slower` times as long."""
        told = []
        for _ in range(seconds):
            canary = self._rng.binomial(rate, self.step.share / 100)
            counts = (canary, rate - canary)
            paces = (3.1 * slower, 3.1)
            event = TrafficMeasured(
                id=ids.derive(self._model, "TrafficMeasured", *self._versions, self.now),
                at=self.now + SECOND,
                model=self._model,
                since=self.now,
                until=self.now + SECOND,
                versions={
                    version: self._traffic(int(count), pace)
                    for version, count, pace in zip(self._versions, counts, paces, strict=True)
                },
            )
            self.step = self.step.plus(event, *self._versions)
            self.now += SECOND
            told.append(event)
        return [*told]

    def recomputed(self, at: int, rows: int) -> list[Event]:
        """So many scores of the canary were computed again, and are the same."""
        one = Agreement(rows=rows)
        self.agreement += one
        id_ = ids.derive(self._model, "AgreementMeasured", self._versions[0], at)
        version = self._versions[0]
        return [AgreementMeasured(id=id_, at=at, model=self._model, version=version, agreement=one)]

    @property
    def verdict(self) -> VerdictEvidence:
        """What the requests so far say."""
        judged = request_verdict.judge(
            [self.step], self.agreement, self._versions, RolloutSettings(), self.now
        )
        return judged.evidence

    def _traffic(self, calls: int, pace: float) -> Traffic:
        latency = [0] * 66
        for milliseconds in self._rng.lognormal(np.log(pace), 0.45, calls):
            latency[latency_bucket(float(milliseconds))] += 1
        while latency and not latency[-1]:
            latency.pop()
        return Traffic(predictions=calls, calls=calls, latency=latency)
