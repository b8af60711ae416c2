"""Drift of correlations: each pair of features, in stage two.

Over each 256 rows a pair's correlation becomes Fisher's z (1915, Biometrika 10:507), whose distance from the
reference's, times the root of the rows, is about standard normal; that feeds one more detector a pair.
ADWIN takes its bound from the values themselves, so that rows which depend on each other over time, whose
correlations scatter more, raise it. A pair opens no episode while one of its columns has an open episode or
is part of another open pair, as one broken column changes all its pairs. With a rolling reference, severities
are against the stream's own earlier groups, as those of columns are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.correlations import GROUP, Pairs
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import STRETCH
from driftloop.mlops_core.drift import serialization
from driftloop.mlops_core.drift.change_times import RecentTimes
from driftloop.mlops_core.drift.channels import SURE
from driftloop.mlops_core.drift.detector import SCALE, DetectorFactory
from driftloop.mlops_core.drift.episodes import Episodes, Mask
from driftloop.mlops_core.drift.microbatches import ROWS, Groups
from driftloop.mlops_core.drift.rolling_reference import RollingMean
from driftloop.mlops_core.drift.verdicts import PAIR, PairClosed, PairOpened, PairVerdict
from driftloop.schemas.events import PairDrift
from driftloop.schemas.settings import DriftSettings

_MOST_PAIRS = 8
"""Most pairs in a window's event."""
_OPENS = 0.25
"""An episode opens from this Fisher's z on, at least: of 1,024 rows that remember nine tenths of their last
value, a correlation has a standard error of 0.1."""
_EIGHT = GROUP // ROWS


class Dependence:
    """Compares correlations of a stream with those of its profile."""

    def __init__(
        self, names: Sequence[str], pairs: Pairs, settings: DriftSettings, detector: DetectorFactory
    ) -> None:
        self._pairs = pairs
        self._columns = np.array([[pairs.columns[index] for index in pair] for pair in pairs.pairs])
        self._names = [(names[first], names[second]) for first, second in self._columns.tolist()]
        self._fisher = np.array(pairs.fisher)
        self._rolling = None
        if settings.reference == "rolling":
            self._rolling = RollingMean(self._fisher, settings.rolling_rows)
        apart = np.array(pairs.apart).T
        self._usual = np.where(apart > SURE / np.sqrt([[GROUP], [STRETCH]]), apart, 0.0)
        self._groups = max(settings.window_rows // GROUP, 1)
        """Most groups of a severity."""
        rows = np.full(len(self._names), pairs.rows, dtype=np.int64)
        window = self._groups * _EIGHT
        self._episodes = Episodes.fresh(
            window, max(settings.open_severity, _OPENS), settings.close_severity, rows
        )
        self._episodes.confirmation = settings.confirmation
        self._detector = detector(len(self._names), settings.delta)
        self._times = RecentTimes(stride=1)
        self._sums = np.empty((0, pairs.width), dtype=np.int64)
        """The newest groups, and those that wait for `step`."""
        self._index = 0
        self._alarms: dict[int, list[tuple[int, int]]] = {}

    def update(self, groups: Groups) -> None:
        """Update the detector with groups; `step` is then called once for each."""
        if not len(groups.sums):
            return
        self._times.add(groups.since.tolist())
        self._sums = np.concatenate([self._sums[-self._groups :], groups.sums])
        away = self._pairs.fishers(groups.sums, GROUP) - self._fisher
        values = np.where(np.isnan(away), 0.0, away) * (SCALE * np.sqrt(GROUP - 3))
        for alarm in self._detector.update(values.T):
            now = self._index + alarm.position + 1
            self._alarms.setdefault(now, []).append((alarm.channel, now - alarm.width))

    def step(self, waiting: int, drifting: Mask, index: int, at: int) -> list[PairVerdict]:
        """The opened and closed episodes at the next group.

        Args:
            waiting: groups after this one that `update` has got already.
            drifting: the columns with an open episode.
            index: micro-batches so far, of all partitions.
            at: time of the newest row (UTC, ms).
        """
        self._index += 1
        now = self._index * _EIGHT
        for pair, changed in self._alarms.pop(self._index, ()):
            self._episodes.alarm(pair, changed * _EIGHT, now)
        history = self._sums[: len(self._sums) - waiting]
        if self._rolling is not None and self._index % self._groups == 0:
            newest = history[-self._groups :]
            self._rolling.follow(self._fisher_z(newest), len(newest) * GROUP)
        if not self._episodes.awake:
            return []
        spans = np.maximum(self._episodes.spans(now) // _EIGHT, 1)
        severities, fishers = self._severities(history, spans)
        opened, closed = self._episodes.judge(severities, now, self._suppressed_pairs(drifting))
        return [
            *(PairClosed(columns=self._names[pair], index=index, at=at) for pair in closed),
            *(self._open_pair(pair, severities, fishers, spans, index, at) for pair in opened),
        ]

    def measure(self, waiting: int) -> dict[str, PairDrift]:
        """The pairs whose correlation drifted over the last window, worst first."""
        history = self._sums[: len(self._sums) - waiting]
        spans = np.full(len(self._names), min(self._groups, len(history)))
        severities, fishers = self._severities(history, spans)
        shown = self._episodes.open | (severities >= self._episodes.opens)
        worst = [pair for pair in np.argsort(-severities, kind="stable").tolist() if shown[pair]]
        return {
            PAIR.join(self._names[pair]): self._pair_drift(pair, severities, fishers)
            for pair in worst[:_MOST_PAIRS]
        }

    def dump(self) -> bytes:
        """The state as bytes; `step` must have been called for every group."""
        meta = {"index": self._index, "pairs": self._names, "window": self._groups}
        arrays: dict[str, NDArray[Any]] = {
            "sums": self._sums[-self._groups :],
            "times": self._times.recent,
            "detector": np.frombuffer(self._detector.dump(), dtype=np.uint8),
            **self._episodes.state(),
            **({} if self._rolling is None else self._rolling.state()),
        }
        return serialization.dump_state(meta, arrays)

    def load(self, data: bytes) -> None:
        """Continue from the bytes of `dump`; a state of other pairs or another window is ignored."""
        meta, arrays = serialization.load_state(data)
        if meta["pairs"] != [list(names) for names in self._names] or meta["window"] != self._groups:
            return
        self._index, self._sums = meta["index"], arrays["sums"]
        self._times = RecentTimes(1, arrays["times"], self._index)
        self._episodes.restore(arrays)
        if self._rolling is not None:
            self._rolling.restore(arrays)
        self._detector.load(arrays["detector"].tobytes())

    def _suppressed_pairs(self, drifting: Mask) -> Mask:
        reported = drifting.copy()
        reported[self._columns[self._episodes.open]] = True
        suppressed: Mask = reported[self._columns].any(axis=1)
        return suppressed

    @property
    def _reference(self) -> Floats:
        return self._fisher if self._rolling is None else self._rolling.level

    def _fisher_z(self, groups: NDArray[np.int64]) -> Floats:
        """Fisher's z of each pair over `groups`; where there is none, as in the reference."""
        [found] = self._pairs.fishers(groups.sum(axis=0)[None], len(groups) * GROUP)
        return np.where(np.isnan(found), self._reference, found)

    def _severities(self, history: NDArray[np.int64], spans: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Severity and Fisher's z of each pair over the last `spans` groups."""
        fishers, usual = self._reference.copy(), self._usual[0].copy()
        for span in np.unique(spans[spans > 0]):
            chosen, rows = spans == span, int(span) * GROUP
            fishers[chosen] = self._fisher_z(history[-span:])[chosen]
            short = np.clip((STRETCH / rows - 1) / 3, 0.0, 1.0)  # 1 at 256 rows, 0 at 1,024
            usual[chosen] = (short * self._usual[0] + (1 - short) * self._usual[1])[chosen]
        return np.maximum(np.abs(fishers - self._reference) - usual, 0.0), fishers

    def _open_pair(
        self, pair: int, severities: Floats, fishers: Floats, spans: NDArray[np.int64], index: int, at: int
    ) -> PairOpened:
        return PairOpened(
            columns=self._names[pair],
            drift=self._pair_drift(pair, severities, fishers),
            changed_at=self._times.at(int(self._episodes.changed[pair]) // _EIGHT, self._index),
            rows=int(spans[pair]) * GROUP,
            index=index,
            at=at,
        )

    def _pair_drift(self, pair: int, severities: Floats, fishers: Floats) -> PairDrift:
        return PairDrift(
            columns=self._names[pair],
            severity=float(severities[pair]),
            drifted=bool(self._episodes.open[pair]),
            reference=float(np.tanh(self._reference[pair])),
            current=float(np.tanh(fishers[pair])),
        )
