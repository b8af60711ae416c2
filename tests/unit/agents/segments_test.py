"""A country, a device: watched by itself, told only where the whole doesn't say it, within one budget."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.agents.drift import DriftAgent
from driftloop.agents.drift_aggregation import DriftAggregationAgent
from driftloop.infra.adapters import folder_reader
from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data import segment_profiles
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.data.segment_profiles import with_segments
from driftloop.mlops_core.data.segments import Segment
from driftloop.mlops_core.ports import Candidate
from driftloop.mlops_core.training import policy
from driftloop.mlops_core.training.fit import train_challenger
from driftloop.mlops_core.training.policy import RetrainingState
from driftloop.schemas.configs import ModelConfig
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import (
    DriftDetected,
    DriftKind,
    DriftMeasured,
    DriftResolved,
    Event,
    RetrainRefused,
    RetrainRequested,
)
from driftloop.schemas.records import PredictionBatch
from driftloop.schemas.settings import DriftSettings, RetrainingSettings
from driftloop.schemas.summaries import DriftSummary
from driftloop.streams.records import Chunk, ConsumerRecord
from driftloop.streams.wire import codec
from tests.support.handling import handle
from tests.support.serving_processes import fitted
from tests.support.toy_examples import request, toy_examples
from tests.unit.mlops_core.trainer_test import SETTINGS, TRAINER

MODEL = "shop"
SHARES = {"FR": 0.5, "DE": 0.3, "IT": 0.16, "MT": 0.04}
SETTLED = DriftSettings(delta=1e-7, open_severity=0.35)
"""What moves one country moves the whole a little: by less than that; and in noise ADWIN alarms once in about
300 / delta values, so that a fresh seed a run meets no false alarm."""
Columns = dict[str, np.ndarray]


def visits(rng: np.random.Generator, rows: int, **shift: float) -> Columns:
    """Each country has a price level of its own; `shift` moves that of some."""
    countries = np.array(list(SHARES), dtype=object)
    chosen = rng.choice(len(countries), rows, p=list(SHARES.values()))
    moves = np.array([shift.get(country, 0.0) for country in countries])
    return {"country": countries[chosen], "price": chosen + moves[chosen] + rng.normal(size=rows)}


def profiled(rng: np.random.Generator, names: Sequence[str] = ("country",), rows: int = 20_000) -> Profile:
    columns, scores = visits(rng, rows), rng.random(rows)
    return with_segments(Profile.of(columns, scores), names, columns, scores)


class Agents:
    """Both stages of one partition, with a registry that knows version 1."""

    def __init__(self, folder: Path, profile: Profile) -> None:
        folder_reader.save(folder, MODEL, "1", fitted(), profile)
        self.first = DriftAggregationAgent(FolderReader(folder))
        self.second = DriftAgent(FolderReader(folder), SETTLED)
        self.binned, self.state = self.first.initial_state(), self.second.initial_state()
        self.summaries: list[DriftSummary] = []
        self.offset = 0

    def feed(self, columns: Columns, scores: np.ndarray, first: int) -> list[Event]:
        rows = range(first, first + len(scores))
        batch = PredictionBatch(
            model=MODEL,
            version="1",
            ids=[f"id-{row}" for row in rows],
            at=list(rows),
            scores=scores.tolist(),
            features={name: column.tolist() for name, column in columns.items()},
        )
        said = handle(self.first, self.binned, self._chunk("predictions", [batch]))
        summaries = [one for one in said if isinstance(one, DriftSummary)]
        self.summaries += summaries
        told = handle(self.second, self.state, self._chunk("drift-summaries", summaries))
        return [one for one in told if isinstance(one, Event)]

    def restart(self) -> None:
        self.binned = self.first.load(self.first.dump(self.binned))
        self.state = self.second.load(self.second.dump(self.state))

    def _chunk(self, topic: str, messages: Iterable[PredictionBatch | DriftSummary]) -> Chunk:
        records = []
        for message in messages:
            records.append(ConsumerRecord(self.offset, 1, None, codec.encode(message), {}))
            self.offset += 1
        return Chunk(topic, 0, records)


def fed(agents: Agents, rng: np.random.Generator, columns: Columns, restarts: bool = False) -> list[Event]:
    events, rows = [], len(columns["price"])
    scores = rng.random(rows)
    for first in range(0, rows, 2000):
        part = slice(first, first + 2000)
        events += agents.feed({name: one[part] for name, one in columns.items()}, scores[part], first)
        if restarts:
            agents.restart()
    return events


def joined(*parts: Columns) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def detections(events: Iterable[Event]) -> list[DriftDetected]:
    return [event for event in events if isinstance(event, DriftDetected)]


def test_a_shift_within_one_country_is_told_of_that_country(tmp_path: Path, rng: np.random.Generator) -> None:
    agents = Agents(tmp_path, profiled(rng))
    stream = joined(visits(rng, 20_000), visits(rng, 20_000, IT=0.6), visits(rng, 20_000))
    events = fed(agents, rng, stream, restarts=True)
    (found,) = detections(events)
    assert (found.segment, list(found.columns), found.kind) == ("country=IT", ["price"], DriftKind.FEATURE)
    assert found.share == pytest.approx(0.16, abs=0.02)
    assert found.sentence.startswith("for country=IT: price moved up by ")
    assert abs(found.changed_at - 20_000) < 4000
    (evidence,) = [event for event in events if event.id == found.caused_by]
    assert isinstance(evidence, DriftMeasured)
    assert (evidence.segment, evidence.partial) == ("country=IT", True)
    (resolved,) = [event for event in events if isinstance(event, DriftResolved)]
    assert (resolved.segment, resolved.caused_by) == ("country=IT", found.id)


def test_what_drifts_everywhere_is_told_once(tmp_path: Path, rng: np.random.Generator) -> None:
    agents = Agents(tmp_path, profiled(rng))
    stream = joined(visits(rng, 20_000), visits(rng, 40_000, FR=1.5, DE=1.5, IT=1.5, MT=1.5))
    found = detections(fed(agents, rng, stream))
    assert [(one.segment, list(one.columns)) for one in found] == [("", ["price"])]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_has_drifted_everywhere_and_is_over_is_no_news_of_a_country(
    restarts: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    agents = Agents(tmp_path, profiled(rng))
    everywhere = visits(rng, 3000, FR=1.5, DE=1.5, IT=1.5, MT=1.5)
    events = fed(agents, rng, joined(visits(rng, 20_000), everywhere, visits(rng, 21_000)), restarts)
    assert [(one.segment, list(one.columns)) for one in detections(events)] == [("", ["price"])]
    assert [one.segment for one in events if isinstance(one, DriftResolved)] == [""]


def test_a_country_that_stays_away_when_the_others_are_back_is_told_then(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    agents = Agents(tmp_path, profiled(rng))
    everywhere = visits(rng, 4000, FR=1.5, DE=1.5, IT=0.6, MT=1.5)
    events = fed(agents, rng, joined(visits(rng, 20_000), everywhere, visits(rng, 20_000, IT=0.6)))
    assert [one.segment for one in detections(events)] == ["", "country=IT"]
    back = next(one for one in events if isinstance(one, DriftResolved))
    assert back.segment == ""
    assert detections(events)[1].changed_at > 24_000


def test_countries_that_trade_places_are_drift_of_the_whole_only(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    agents = Agents(tmp_path, profiled(rng))
    moved = visits(rng, 20_000)
    gone = (moved["country"] == "FR") & (rng.random(20_000) < 0.6)
    fewer = {name: column[~gone] for name, column in moved.items()}
    found = detections(fed(agents, rng, joined(visits(rng, 20_000), fewer)))
    assert {one.segment for one in found} == {""}


def test_steady_segments_are_quiet_and_tell_no_windows(tmp_path: Path, rng: np.random.Generator) -> None:
    events = fed(Agents(tmp_path, profiled(rng)), rng, visits(rng, 120_000))
    assert [type(event) for event in events] == [DriftMeasured] * (120_000 // 1024)
    assert not any(event.segment for event in events if isinstance(event, DriftMeasured))


def test_restarts_between_chunks_change_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    profile, stream = profiled(rng), joined(visits(rng, 20_000), visits(rng, 20_000, IT=0.6))
    scores = int(rng.integers(2**31))
    once = fed(Agents(tmp_path / "once", profile), np.random.default_rng(scores), stream)
    often = fed(Agents(tmp_path / "often", profile), np.random.default_rng(scores), stream, restarts=True)
    assert [event.id for event in often] == [event.id for event in once]


def test_without_segments_nothing_more_is_sent(tmp_path: Path, rng: np.random.Generator) -> None:
    agents = Agents(tmp_path, profiled(rng, names=()))
    fed(agents, rng, visits(rng, 10_000))
    assert {summary.segment for summary in agents.summaries} == {""}
    assert len(agents.summaries) == 5


def test_every_row_of_a_segment_is_counted_once(tmp_path: Path, rng: np.random.Generator) -> None:
    agents = Agents(tmp_path, profiled(rng))
    stream = visits(rng, 10_000)
    fed(agents, rng, stream, restarts=True)
    for country in ("FR", "DE", "IT"):
        batches = sum(one.batches for one in agents.summaries if one.segment == f"country={country}")
        assert batches == (stream["country"] == country).sum() // 32


def test_all_streams_of_a_version_share_one_delta(tmp_path: Path, rng: np.random.Generator) -> None:
    agents = Agents(tmp_path, profiled(rng))
    fed(agents, rng, visits(rng, 2000))
    (whole,) = agents.state.watched.values()
    banks = [stream.detector._channel_detectors._plain for stream in (whole, *whole.segments.values())]
    deltas = {bank._settings["delta"] for bank in banks}  # type: ignore[attr-defined]  # of an AdwinBank
    assert len(whole.segments) == 3
    assert deltas == {SETTLED.delta / 4}


def test_a_segment_that_no_profile_has_is_parked(tmp_path: Path, rng: np.random.Generator) -> None:
    agents = Agents(tmp_path, profiled(rng))
    fed(agents, rng, visits(rng, 2000))
    odd = agents.summaries[1].model_copy(update={"segment": "country=XX"})
    (letter,) = handle(agents.second, agents.state, agents._chunk("drift-summaries", [odd]))
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "unknown segment"
    assert letter.detail == (
        "shop:1 has no segment 'country=XX'; possible: country=FR, country=DE, country=IT"
    )
    assert list(agents.state.watched) == [(MODEL, "1")]


def test_a_segment_has_the_bins_of_the_whole_and_shares_of_its_own(rng: np.random.Generator) -> None:
    columns, scores = visits(rng, 20_000), rng.random(4000)
    whole = Profile.of(columns, np.zeros(20_000)).predicting(scores, classes=True)
    profile = with_segments(whole, ["country"], columns, scores)
    assert [segment.name for segment in profile.segments] == ["country=FR", "country=DE", "country=IT"]
    own = profile.of_segment("country=IT")
    assert own is not None
    chosen = columns["country"] == "IT"
    assert own.columns[1].edges == profile.columns[1].edges
    counts = np.bincount(profile.columns[1].bins(columns["price"][chosen]), minlength=33)
    assert own.columns[1].shares == pytest.approx(counts / chosen.sum())
    assert own.columns[2].rows == chosen[-4000:].sum()
    assert own.names == profile.names
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
    assert Profile.model_validate_json(profile.model_dump_json(exclude={"segments"})) == whole


def test_the_largest_of_many_segments_are_kept(rng: np.random.Generator) -> None:
    letters = np.array(list("abcdefghij"), dtype=object)
    columns: Columns = {name: letters[rng.integers(0, 10, 20_000)] for name in ("a", "b", "c")}
    columns["x"] = rng.normal(size=20_000)
    whole = Profile.of(columns, rng.random(20_000))
    profile = with_segments(whole, ["a", "b", "c", "x", "none"], columns, np.zeros(9))
    assert len(profile.segments) == segment_profiles.MOST
    assert all(segment.rows >= segment_profiles.LEAST for segment in profile.segments)
    assert profile.watched_series == 5 * 25


def test_training_learns_the_segments_it_is_told() -> None:
    examples = toy_examples(8000)
    drift = DriftSettings(segments=("origin",))
    model = ModelConfig(name="flights")
    found = train_challenger(request("flights"), model, examples, None, TRAINER, SETTINGS, drift)
    assert isinstance(found, Candidate)
    assert {segment.column for segment in found.profile.segments} == {"origin"}


@pytest.mark.parametrize(("share", "answer"), [(0.16, RetrainRefused), (0.5, RetrainRequested)])
def test_only_a_large_segment_asks_for_a_training(share: float, answer: type[Event]) -> None:
    drift = DriftDetected(
        id="d",
        at=10,
        model=MODEL,
        version="1",
        kind=DriftKind.FEATURE,
        columns=["price"],
        severity=1,
        changed_at=9,
        sentence="for country=IT: price rose",
        segment="country=IT",
        share=share,
    )
    state, answered = policy.on_alarm(RetrainingState(labelled=5000), drift, RetrainingSettings())
    assert isinstance(answered, answer)
    if isinstance(answered, RetrainRefused):
        reason = "segment: country=IT is 16 % of the training rows"
        assert answered.reason == f"{reason}, 20 % are needed (retraining.segment_share)"
        assert state.alarms == ()


@given(*[st.text("ab=\\", max_size=4)] * 4)
def test_no_two_segments_have_one_name(column: str, value: str, other: str, another: str) -> None:
    one = Segment(column=column, value=value, place=0, bin=0, rows=1, columns=())
    two = one.model_copy(update={"column": other, "value": another})
    assert (one.name == two.name) == ((column, value) == (other, another))


def test_of_an_ordinary_column_a_segment_has_the_name_that_it_always_had() -> None:
    one = Segment(column="user country", value="a=b\\c", place=0, bin=0, rows=1, columns=())
    assert one.name == "user country=a=b\\c"
