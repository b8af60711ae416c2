"""Stage one of drift: bins predictions against the reference of the version that answered."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from driftloop.mlops_core.data.feature_join import Descriptions
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.profile_lookup import Key
from driftloop.mlops_core.data.rows import RowKind, Rows, concatenate
from driftloop.mlops_core.drift.microbatches import ROWS, Summariser
from driftloop.mlops_core.drift.schema_changes import deviations
from driftloop.mlops_core.eviction import evict_oldest
from driftloop.schemas.events import Span
from driftloop.schemas.summaries import DriftSummary

Streams = dict[str, Summariser]
"""By segment; empty for all rows."""
KEPT = 8
"""Versions of a model whose left-over rows are remembered, newest last; a rollout has two at a time."""


@dataclass
class State:
    """What one partition waits for, and what it is measured against."""

    profiles: dict[Key, Profile] = field(default_factory=dict)
    """Of the versions with the newest traffic, newest last."""
    summarisers: dict[Key, Streams] = field(default_factory=dict)
    descriptions: Descriptions = field(default_factory=Descriptions)

    def dump(self) -> bytes:
        """Profiles and left-over rows by model and version, and whose features are still to come."""
        summarisers = [
            [*key, segment, one.state()]
            for key, streams in self.summarisers.items()
            for segment, one in streams.items()
        ]
        profiles = [
            [*key, orjson.Fragment(profile.model_dump_json())] for key, profile in self.profiles.items()
        ]
        return orjson.dumps(
            {
                "profiles": profiles,
                "summarisers": summarisers,
                "descriptions": self.descriptions.state(),
            }
        )

    @classmethod
    def load(cls, data: bytes) -> "State":
        """Back from `dump`."""
        fields = orjson.loads(data)
        profiles = {
            (model, version): Profile.model_validate(one) for model, version, one in fields["profiles"]
        }
        summarisers: dict[Key, Streams] = {}
        for model, version, segment, one in fields["summarisers"]:
            summarisers.setdefault((model, version), {})[segment] = Summariser.restore(one)
        return cls(profiles, summarisers, Descriptions.restore(fields["descriptions"]))

    def evict(self, model: str) -> None:
        """Give up the versions of a model with the oldest traffic."""
        for gone, _ in evict_oldest(self.profiles, model, KEPT):
            self.summarisers.pop(gone, None)


def take_answers(state: State, resolved: object) -> Mapping[Key, str]:
    """Take profiles into the state; returns why each other version is not among them."""
    absent: dict[Key, str] = {}
    for key, answer in resolved.items() if isinstance(resolved, Mapping) else ():
        if isinstance(answer, Profile):
            state.profiles[key] = answer
        else:
            state.profiles.pop(key, None)
            absent[key] = str(answer)
    return absent


def refusal(rows: Rows, known: Collection[Key], absent: Mapping[Key, str]) -> tuple[str, str] | None:
    """Why the rows can't be used, as the reason and detail of a dead letter."""
    if rows.kind is RowKind.LABELS:
        return "wrong topic", f"{rows.kind} are no predictions"
    key = rows.model, rows.version
    if rows.kind is RowKind.FEATURES or key in known:
        return None
    return "unknown model", absent.get(key, f"{rows.model}:{rows.version} is not registered")


def _streams_of(state: State, key: Key) -> Streams:
    """The version's summarisers; the version is now the newest of its model."""
    state.profiles[key] = state.profiles.pop(key)
    return state.summarisers.setdefault(key, {})


def summarise(state: State, key: Key, parts: Sequence[Rows], span: Span) -> Iterator[DriftSummary]:
    """What rows of one version complete: the whole first, then segment by segment.

    `span` are the records that the rows of `parts` came with.
    """
    streams, profile = _streams_of(state, key), state.profiles[key]
    rows = concatenate(parts)
    model, version = rows[0].model, rows[0].version
    bins = np.concatenate([profile.bins(one.features, one.values, len(one)) for one in rows])
    at = np.concatenate([one.at for one in rows])
    waited = _summariser(streams, "", len(profile.columns)).waiting
    for segment, chosen in _streams(profile, bins):
        own = _summariser(streams, segment, len(profile.columns))
        after = [] if isinstance(chosen, slice) else _after(chosen, own.waiting, waited)
        pairs = None if segment else profile.pairs  # a segment's own would cost as much again, 24 times
        counts, times, groups = own.add(bins[chosen], at[chosen], pairs)
        if len(counts):
            summary = DriftSummary.of(model, version, span, counts, times)
            summary = summary.with_groups(groups.sums, groups.ends, groups.since)
            found = {} if segment else deviations(rows, profile)
            yield summary.model_copy(update={"segment": segment, "deviations": found, "after": after})


def _after(chosen: NDArray[np.bool_], waiting: int, waited: int) -> list[int]:
    """Micro-batches of the whole that are complete with the rows that complete each of a segment's.

    Args:
        chosen: which of the new rows are the segment's.
        waiting: rows of the segment that wait since before these.
        waited: rows of the whole that do.

    >>> _after(np.arange(100) % 2 == 1, waiting=2, waited=5)
    [2]
    """
    rows = np.flatnonzero(chosen)[ROWS - 1 - waiting :: ROWS]
    after: list[int] = ((rows + 1 + waited) // ROWS).tolist()
    return after


def _summariser(streams: Streams, segment: str, columns: int) -> Summariser:
    """The stream's summariser; a fresh one if what waits was of a profile that had other columns."""
    own = streams.get(segment)
    if own is None or own.columns != columns:
        own = streams[segment] = Summariser(columns)
    return own


def _streams(profile: Profile, bins: NDArray[np.uint8]) -> Iterator[tuple[str, slice | NDArray[np.bool_]]]:
    """Each segment's name and rows; the whole has none."""
    yield "", slice(None)
    for segment in profile.segments:
        yield segment.name, bins[:, segment.place] == segment.bin
