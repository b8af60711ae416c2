"""Feature and prediction drift of one model version: stage two.

Each channel of each column (see `channels`) has a detector, by default river's ADWIN, that is fed the mean of
32 rows; an alarm opens an episode once the change is large enough to matter (see `episodes`). Measured on
streams of a million rows in docs/decisions/0007.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import BINS_MAX, Profile
from driftloop.mlops_core.data.seasons import Seasons, hours_of
from driftloop.mlops_core.drift import contribution, serialization
from driftloop.mlops_core.drift.adwin_bank import adwin
from driftloop.mlops_core.drift.change_times import RecentTimes
from driftloop.mlops_core.drift.channel_detectors import ChannelDetectors
from driftloop.mlops_core.drift.channels import SHAPE_BATCHES, Channels
from driftloop.mlops_core.drift.dependence import Dependence
from driftloop.mlops_core.drift.detector import DetectorFactory
from driftloop.mlops_core.drift.episodes import Episodes, Mask
from driftloop.mlops_core.drift.microbatches import ROWS, Counts, Groups, Times
from driftloop.mlops_core.drift.rolling_reference import Rolling
from driftloop.mlops_core.drift.season_adjustment import Due
from driftloop.mlops_core.drift.significance import Significance
from driftloop.mlops_core.drift.verdicts import Closed, Measured, Opened, Verdict
from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas.events import ColumnDrift, DriftKind
from driftloop.schemas.settings import DriftSettings


class DistributionDrift:
    """Compares a version's stream with its profile.

    >>> from driftloop.mlops_core.drift.microbatches import Summariser
    >>> rng = np.random.default_rng(7)
    >>> profile = Profile.of({"temp": rng.normal(60, 10, 10_000)}, scores=rng.random(10_000))
    >>> temp = np.concatenate([rng.normal(60, 10, 4096), rng.normal(68, 10, 2048)])
    >>> bins = profile.bins({"temp": temp}, scores=rng.random(6144), rows=6144)
    >>> counts, times, groups = Summariser(columns=2).add(bins, np.arange(6144), profile.pairs)
    >>> drift = DistributionDrift(profile, DriftSettings())
    >>> opened = [v for v in drift.update(counts, times, groups) if isinstance(v, Opened)]
    >>> [(o.column, o.kind.value, o.channel, o.changed_at, o.at) for o in opened]
    [('temp', 'feature', 'location', 4096, 4351)]
    """

    def __init__(
        self,
        profile: Profile,
        settings: DriftSettings,
        detector: DetectorFactory = adwin,
        within: bool = False,
    ) -> None:
        """`detector` listens to the channels; `settings.detector` is what it is called.

        `within` a whole that is watched as well, columns wait for that to speak first.
        """
        self._profile = profile
        self._season = _season(profile, settings)
        self._channels = channels = Channels.of(profile, self._season)
        self._rolling = None
        if settings.reference == "rolling":
            self._rolling = Rolling(profile, channels.weights, settings.rolling_rows)
        self._chance = Significance.of(channels, profile)
        self._weights = contribution.weights(profile)
        self._window = max(settings.window_rows // ROWS, 1)
        leaders = np.arange(len(profile.columns))
        leaders[len(profile.features) :] = len(profile.features)  # columns derived from the score follow it
        self._episodes = Episodes.fresh(
            self._window, settings.open_severity, settings.close_severity, channels.rows, leaders, within
        )
        self._episodes.confirmation = settings.confirmation
        self._channel_detectors = ChannelDetectors(channels, settings.delta, detector)
        self._dependence = None
        if profile.pairs is not None:
            self._dependence = Dependence(profile.names, profile.pairs, settings, detector)
        self._heard = {"detector": settings.detector, "season": _season_name(self._season)}
        """Who listens to what: a state of other detectors, or of other values, is none of ours."""
        self._as_trained = [self._column(place) for place in range(len(profile.columns))]
        self._times = RecentTimes(stride=1)
        columns = len(profile.columns)
        self._counts = np.empty((0, columns, BINS_MAX), dtype=np.uint8)
        """The newest micro-batches, enough for a window and a reading of the shape."""
        self._spans = np.empty((0, 2), dtype=np.int64)
        self._index = 0

    @property
    def open(self) -> tuple[str, ...]:
        """Columns with an open episode."""
        return tuple(
            n for n, is_open in zip(self._profile.names, self._episodes.open, strict=True) if is_open
        )

    @property
    def profile(self) -> Profile:
        """The reference."""
        return self._profile

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns."""
        return self._profile.names

    @property
    def rows(self) -> int:
        """Rows taken in so far."""
        return self._index * ROWS

    def fits(self, counts: Counts) -> bool:
        """Whether micro-batches, shape (k, columns, BINS_MAX), have as many columns."""
        return counts.shape[1:] == (len(self._profile.columns), BINS_MAX)

    @property
    def index(self) -> int:
        """Micro-batches taken in so far."""
        return self._index

    def update(
        self, counts: Counts, at: Times, groups: Groups | None = None, silenced: Mask | None = None
    ) -> list[Verdict]:
        """Take in micro-batches: `counts` of shape (k, columns, BINS_MAX), `at` of shape (k, 2).

        With the `groups` that they completed, if a summariser was told the profile's pairs. Columns that are
        `silenced` at a micro-batch, shape (k, columns), because somebody else tells of them, open no episode.

        Returns:
            What happened, in order. How micro-batches are chunked changes nothing.

        Raises:
            InvalidData: counts of another profile, or not of 32 rows.
        """
        self._check(counts, at)
        turns = self._update_pairs(groups)
        held = len(self._counts)
        history = np.concatenate([self._counts, counts])
        spans = np.concatenate([self._spans, at])
        self._times.add(at[:, 0].tolist())
        alarms = self._channel_detectors.update(self._index, len(counts), history, spans)
        verdicts: list[Verdict] = []
        awake = self._episodes.awake
        for end in range(held + 1, len(history) + 1):
            self._index += 1
            for column, changed in alarms.get(self._index, ()):
                self._episodes.alarm(column, changed, self._index)
                awake = True
            if awake:
                quiet = None if silenced is None else silenced[end - held - 1]
                verdicts += self._update_episodes(history[:end], spans[:end], quiet)
                awake = self._episodes.awake
            while turns and turns[0] <= end - held:
                verdicts += self._step_pairs(turns, int(spans[end - 1, 1]))
            if self._index % self._window == 0:
                verdicts.append(self._measure_window(history[:end], spans[:end], len(turns)))
                self._episodes.clear_resolved()
        keep = max(self._window, SHAPE_BATCHES)
        self._counts, self._spans = history[-keep:].copy(), spans[-keep:].copy()
        return verdicts

    def dump(self) -> bytes:
        """The state as bytes; without the profile."""
        meta = {
            "index": self._index,
            "columns": self._profile.names,
            "heard": self._heard,
        }
        arrays: dict[str, NDArray[Any]] = {
            "counts": self._counts,
            "spans": self._spans,
            "times": self._times.recent,
            **self._episodes.state(),
            **({} if self._rolling is None else self._rolling.state()),
            **self._channel_detectors.state(),
        }
        if self._dependence is not None:
            arrays["dependence"] = np.frombuffer(self._dependence.dump(), dtype=np.uint8)
        return serialization.dump_state(meta, arrays)

    @classmethod
    def load(
        cls,
        data: bytes,
        profile: Profile,
        settings: DriftSettings,
        detector: DetectorFactory = adwin,
        within: bool = False,
    ) -> Self:
        """Continue where `dump` was taken.

        With fresh detectors if they are others, or are to hear something else (a season); with another window
        from the rows that are there.

        Raises:
            InvalidData: not such a state, or that of another profile.
        """
        loaded = cls(profile, settings, detector, within)
        meta, arrays = serialization.load_state(data)
        if meta.get("columns") != list(profile.names):
            raise InvalidData(f"state of {meta.get('columns')} doesn't fit {list(profile.names)}")
        loaded._index = meta["index"]
        loaded._counts, loaded._spans = arrays["counts"], arrays["spans"]
        loaded._times = RecentTimes(1, arrays["times"], loaded._index)
        loaded._episodes.restore(arrays)
        if loaded._rolling is not None:
            loaded._rolling.restore(arrays)
        if meta.get("heard", {"detector": "adwin", "season": None}) == loaded._heard:
            loaded._channel_detectors.restore(arrays)
            if loaded._dependence is not None and "dependence" in arrays:  # an older version had none
                loaded._dependence.load(arrays["dependence"].tobytes())
        return loaded

    def _update_pairs(self, groups: Groups | None) -> list[int]:
        """Feed what pairs need; which micro-batches completed each group, counted from 1, are its turns.

        Sums of another version's pairs say nothing; neither do those of a summary from before pairs.
        """
        if self._dependence is None or self._profile.pairs is None or groups is None or not len(groups.sums):
            return []
        if groups.sums.shape[1] != self._profile.pairs.width:
            raise InvalidData(f"expected sums (k, {self._profile.pairs.width}), got {groups.sums.shape}")
        self._dependence.update(groups)
        return [int(end) for end in groups.ends]

    def _step_pairs(self, turns: list[int], now: int) -> list[Verdict]:
        assert self._dependence is not None
        turns.pop(0)
        return list(self._dependence.step(len(turns), self._episodes.open, self._index, now))

    def _check(self, counts: Counts, at: Times) -> None:
        expected = (len(self._profile.columns), BINS_MAX)
        if counts.ndim != 3 or not self.fits(counts) or at.shape != (len(counts), 2):
            raise InvalidData(
                f"expected counts (k, {expected}) and at (k, 2), got {counts.shape} and {at.shape}"
            )
        if not (counts.sum(axis=2, dtype=np.int64) == ROWS).all():
            raise InvalidData(f"a micro-batch doesn't have {ROWS} rows in each column")

    def _update_episodes(self, history: Counts, times: Times, quiet: Mask | None) -> list[Verdict]:
        spans, now = np.minimum(self._episodes.spans(self._index), len(history)), int(times[-1, 1])
        summed = np.empty(history.shape[1:], dtype=np.int64)
        for span in np.unique(spans):
            chosen = spans == span
            summed[chosen] = _sum_counts(history[-span:, chosen])
        due = self._due(times, spans)
        severities = self._channels.severities(summed, due)
        sure = self._chance.significant(severities, spans * ROWS).max(axis=1)
        opened, closed = self._episodes.judge(severities.max(axis=1), self._index, quiet, sure)
        return [
            *(self._close_episode(column, now) for column in closed),
            *(
                self._open_episode(column, summed, severities, due, int(spans[column]), now)
                for column in opened
            ),
        ]

    def _due(self, times: Times, spans: NDArray[np.int64]) -> Due | None:
        """What is due in the last `spans` micro-batches of each column; None: the reference as a whole."""
        if self._rolling is not None:
            return self._rolling.due
        if self._season is None:
            return None
        by_span = {int(span): self._channels.due(times[-span:]) for span in np.unique(spans)}
        dues = [due for due in (by_span[int(span)] for span in spans) if due is not None]
        if not dues:
            return None
        means = np.stack([due.means[column] for column, due in enumerate(dues)])
        return Due(means, np.stack([due.shares[column] for column, due in enumerate(dues)]))

    def _open_episode(
        self,
        column: int,
        summed: NDArray[np.int64],
        severities: Floats,
        due: Due | None,
        span: int,
        now: int,
    ) -> Opened:
        """Its share in the drift is that among the columns with an open episode: what isn't told has none."""
        drifting = severities * self._episodes.open[:, None]
        [drift] = self._columns(summed, severities, due, [column], drifting)
        return Opened(
            column=self._profile.names[column],
            kind=self._kind(column),
            drift=drift,
            changed_at=self._times.at(int(self._episodes.changed[column]), self._index),
            rows=span * ROWS,
            index=self._index,
            at=now,
        )

    def _close_episode(self, column: int, now: int) -> Closed:
        return Closed(column=self._profile.names[column], kind=self._kind(column), index=self._index, at=now)

    def _measure_window(self, history: Counts, spans: Times, waiting: int) -> Measured:
        summed = _sum_counts(history[-self._window :])
        due = self._due(spans, np.full(len(self._profile.columns), self._window))
        severities = self._channels.severities(summed, due)
        names = self._profile.names
        columns = dict(zip(names, self._columns(summed, severities, due, range(len(names))), strict=True))
        since, until = int(spans[-self._window :, 0].min()), int(spans[-self._window :, 1].max())
        pairs = {} if self._dependence is None else self._dependence.measure(waiting)
        if self._rolling is not None:
            self._rolling.follow(summed)
        return Measured(
            rows=min(self._window, len(history)) * ROWS,
            since=since,
            until=until,
            columns=columns,
            pairs=pairs,
            index=self._index,
            at=int(spans[-1, 1]),
        )

    def _columns(
        self,
        summed: NDArray[np.int64],
        severities: Floats,
        due: Due | None,
        chosen: Iterable[int],
        drifting: Floats | None = None,
    ) -> Iterator[ColumnDrift]:
        """What the chosen columns look like; not validated, because every window has them all."""
        shares = (summed / summed.sum(axis=1, keepdims=True)).tolist()
        # Of equals the last: that values are missing says more than that there are fewer of the only kind.
        last = severities.shape[1] - 1 - severities[:, ::-1].argmax(axis=1)
        worst = np.where(severities.any(axis=1), last, 0).tolist()
        largest = severities.max(axis=1).tolist()
        sharing = severities if drifting is None else drifting
        shared = contribution.contributions(sharing.max(axis=1), self._weights).tolist()
        is_open, states = self._episodes.open.tolist(), self._episodes.states
        for column in chosen:
            as_trained, names = self._as_trained[column], self._channels.names[column]
            bins = len(as_trained.reference)
            told = {
                "severity": largest[column],
                "channel": names[worst[column]] if worst[column] < len(names) else "shape",
                "drifted": is_open[column],
                "state": states[column],
                "contribution": shared[column],
                "current": tuple(shares[column][:bins]),
            }
            if due is not None:
                told["reference"] = tuple(due.shares[column, :bins].tolist())
            yield as_trained.model_copy(update=told)

    def _column(self, place: int) -> ColumnDrift:
        """What never changes about a column."""
        profile = self._profile.columns[place]
        return ColumnDrift(
            severity=0.0,
            channel="",
            drifted=False,
            kind=self._kind(place),
            reference=profile.shares,
            current=(),
            edges=profile.edges,
            categories=profile.bin_names,
        )

    def _kind(self, column: int) -> DriftKind:
        return DriftKind.FEATURE if column < len(self._profile.features) else DriftKind.PREDICTION


def _season(profile: Profile, settings: DriftSettings) -> Seasons | None:
    """The profile's season, if it is the one that was asked for."""
    learned = profile.season
    if settings.season is None or learned is None or learned.hours != hours_of(settings.season):
        return None
    return learned


def _season_name(season: Seasons | None) -> str | None:
    return None if season is None else f"{season.phases} phases of {season.hours:g} hours"


def _sum_counts(counts: Counts) -> NDArray[np.int64]:
    summed: NDArray[np.int64] = counts.sum(axis=0, dtype=np.int64)
    return summed
