"""The label join: whatever the order of arrival, the rows that meet are those of a join made afterwards."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.data.label_join import CLOCK_ROWS, Expired, LabelJoin
from driftloop.schemas.records import Value

HORIZON = 10_000
NOON = 1_700_000_000_000
FOREVER = 1 << 52

Features = Mapping[str, Value]
Row = tuple[int, float, int, float, str, Features]
"""at, label, labelled_at, score, version, features"""


@dataclass(frozen=True)
class Truth:
    """All that will ever be sent about one id; what is None is never sent."""

    model: str
    id: str
    version: str
    predicted: tuple[int, float] | None
    own: Features
    apart: Features
    labelled: tuple[int, float] | None


@dataclass(frozen=True)
class Arrival:
    """One thing about one id; equal `batch` may travel together."""

    batch: tuple[str, ...]
    truth: Truth


def values() -> st.SearchStrategy[Features]:
    numbers = st.none() | st.integers(-50, 50) | st.floats(allow_nan=False, width=32)
    mixed = st.none() | st.integers(-50, 50) | st.sampled_from(["JFK", "LGA"])
    return st.dictionaries(st.sampled_from(["a", "b"]), numbers).flatmap(
        lambda some: st.dictionaries(st.sampled_from(["t", "u"]), mixed).map(lambda more: {**some, **more})
    )


def truths(span: int) -> st.SearchStrategy[list[Truth]]:
    times = st.integers(NOON, NOON + span)
    truth = st.builds(
        Truth,
        model=st.sampled_from(["churn", "fraud"]),
        id=st.integers(0, 30).map(str),
        version=st.sampled_from(["1", "2"]),
        predicted=st.none() | st.tuples(times, st.floats(0, 1)),
        own=values(),
        apart=values(),
        labelled=st.none() | st.tuples(times, st.sampled_from([0.0, 1.0])),
    )
    return st.lists(truth, max_size=30, unique_by=lambda one: (one.model, one.id))


def arrivals_of(truth: Truth) -> Iterator[Arrival]:
    if truth.predicted is not None:
        yield Arrival(("prediction", truth.model, truth.version, *truth.own), truth)
    if truth.apart:
        yield Arrival(("features", truth.model, *truth.apart), truth)
    if truth.labelled is not None:
        yield Arrival(("label", truth.model), truth)


@st.composite
def streams(draw: st.DrawFn, span: int = HORIZON) -> tuple[list[Truth], list[list[Arrival]]]:
    """What is true, and how it arrives: in any order, with repetitions, in batches of any size."""
    told = draw(truths(span))
    once = [arrival for truth in told for arrival in arrivals_of(truth)]
    again = draw(st.lists(st.sampled_from(once), max_size=20)) if once else []
    ordered = draw(st.permutations(once + again))
    sizes = st.integers(1, 8)
    batches: list[list[Arrival]] = []
    for _, alike in groupby(ordered, key=lambda arrival: arrival.batch):
        rest = list(alike)
        while rest:
            size = draw(sizes)
            batches.append(rest[:size])
            rest = rest[size:]
    return told, batches


def columns(rows: Sequence[Features]) -> dict[str, list[Value]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def feed(join: LabelJoin, batch: list[Arrival]) -> Examples:
    (kind, model, *_), told = batch[0].batch, [arrival.truth for arrival in batch]
    ids = [truth.id for truth in told]
    match kind:
        case "prediction":
            made = [truth.predicted for truth in told if truth.predicted is not None]
            features = columns([truth.own for truth in told])
            at, scores = zip(*made, strict=True)
            return join.predictions(model, told[0].version, ids, at, scores, features)
        case "features":
            return join.features(model, ids, [NOON] * len(ids), columns([truth.apart for truth in told]))
        case _:
            at, labels = zip(*[truth.labelled for truth in told if truth.labelled is not None], strict=True)
            return join.labels(model, ids, at, labels)


def rows_of(examples: Examples) -> Iterator[tuple[str, Row]]:
    for row, id_ in enumerate(examples.ids.tolist()):
        yield (
            id_,
            (
                int(examples.at[row]),
                float(examples.labels[row]),
                int(examples.labelled_at[row]),
                float(examples.scores[row]),
                examples.versions[row],
                known({name: column[row] for name, column in examples.features.items()}),
            ),
        )


def known(features: Features) -> Features:
    """Without what is missing; text and numbers alike, since a feature that is text anywhere is text."""
    return {name: plain(value) for name, value in features.items() if not missing(value)}


def missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def plain(value: Value) -> Value:
    try:
        return float(value or 0.0)
    except ValueError:
        return value


def joined_afterwards(told: list[Truth]) -> dict[tuple[str, str], Row]:
    return {
        (truth.model, truth.id): (
            truth.predicted[0],
            truth.labelled[1],
            truth.labelled[0],
            truth.predicted[1],
            truth.version,
            known(truth.own or truth.apart),
        )
        for truth in told
        if truth.predicted and truth.labelled and (truth.own or truth.apart)
    }


@given(streams(), st.sets(st.integers(0, 60)))
def test_any_order_chunking_repetition_and_restart_give_the_offline_join(
    stream: tuple[list[Truth], list[list[Arrival]]], restarts: set[int]
) -> None:
    told, batches = stream
    join, met = LabelJoin(FOREVER), list[tuple[tuple[str, str], Row]]()
    for place, batch in enumerate(batches):
        if place in restarts:
            join = LabelJoin.load(join.dump(), FOREVER)
        met += [((batch[0].truth.model, id_), row) for id_, row in rows_of(feed(join, batch))]
        assert join.expire() == Expired([], {})
    wanted = joined_afterwards(told)
    assert sorted(met, key=lambda one: one[0]) == sorted(wanted.items())
    for version in ("1", "2"):
        assert squares(row for _, row in met if row[4] == version) == squares(
            row for row in wanted.values() if row[4] == version
        )
    assert join.counts()["duplicates"] == repetitions(batches)


def squares(rows: Iterable[Row]) -> float:
    """The exact sum of squared errors: `fsum` doesn't depend on the order."""
    return math.fsum((score - label) ** 2 for _, label, _, score, _, _ in rows)


def repetitions(batches: list[list[Arrival]]) -> int:
    sent = [(one.batch[0], one.truth.model, one.truth.id) for batch in batches for one in batch]
    counted = [key for key in sent if key[0] != "features"]
    return len(counted) - len(set(counted))


@given(streams(span=5 * HORIZON), st.integers(0, 60))
def test_a_restart_at_any_point_changes_nothing_that_follows(
    stream: tuple[list[Truth], list[list[Arrival]]], cut: int
) -> None:
    _, batches = stream
    straight, restarted = ready(), ready()
    for place, batch in enumerate(batches):
        if place == cut:
            restarted = LabelJoin.load(restarted.dump(), HORIZON)
        assert list(rows_of(feed(straight, batch))) == list(rows_of(feed(restarted, batch)))
        assert comparable(straight.expire()) == comparable(restarted.expire())
    assert straight.counts() == restarted.counts()


def comparable(expired: Expired) -> object:
    return list(expired.orphans), {model: list(rows_of(rows)) for model, rows in expired.featureless.items()}


@given(streams(span=5 * HORIZON))
def test_every_prediction_and_every_label_is_accounted_for(
    stream: tuple[list[Truth], list[list[Arrival]]],
) -> None:
    join = ready()
    for batch in stream[1]:
        feed(join, batch)
        join.expire()
        counts = join.counts()
        assert counts["predictions"] == counts["joined"] + counts["unlabelled"] + counts["waiting"]
        assert counts["labels"] == counts["joined"] + counts["orphans"] + counts["waiting_labels"]


def predict(join: LabelJoin, ids: Sequence[str], at: Sequence[int], **features: Sequence[Value]) -> Examples:
    return join.predictions("churn", "3", ids, at, [0.5] * len(ids), features or {"a": [1.0] * len(ids)})


def tick(join: LabelJoin, kind: str, at: int, rows: int = CLOCK_ROWS) -> None:
    """Let the clock of one kind say `at`: so many rows, which meet nobody."""
    ids, times = [f"tick-{kind}-{at}-{row}" for row in range(rows)], [at] * rows
    if kind == "predictions":
        predict(join, ids, times)
    else:
        join.labels("churn", ids, times, [0.0] * rows)


def ready() -> LabelJoin:
    """A join whose clocks both say noon."""
    join = LabelJoin(HORIZON)
    for model in ("churn", "fraud"):
        ids, times = [f"early-{row}" for row in range(CLOCK_ROWS)], [NOON] * CLOCK_ROWS
        join.predictions(model, "1", ids, times, [0.5] * CLOCK_ROWS, {"a": [1.0] * CLOCK_ROWS})
        join.labels(model, ids, times, [1.0] * CLOCK_ROWS)
    return join


def test_rows_come_ordered_by_the_time_of_the_prediction() -> None:
    join = LabelJoin(HORIZON)
    predict(join, ["late", "early"], [NOON + 5, NOON])
    assert join.labels("churn", ["late", "early"], [NOON + 9] * 2, [1, 0]).ids.tolist() == ["early", "late"]


def test_the_same_id_of_two_models_is_two_predictions() -> None:
    join = LabelJoin(HORIZON)
    predict(join, ["1"], [NOON])
    assert len(join.labels("fraud", ["1"], [NOON], [1.0])) == 0
    assert len(join.labels("churn", ["1"], [NOON], [1.0])) == 1


def test_a_prediction_without_features_waits_for_its_feature_row() -> None:
    join = LabelJoin(HORIZON)
    join.predictions("churn", "3", ["1"], [NOON], [0.5], {})
    assert len(join.labels("churn", ["1"], [NOON], [1.0])) == 0
    assert join.features("churn", ["1"], [NOON], {"miles": [7]}).features["miles"].tolist() == [7.0]


def test_a_predictions_own_features_go_before_a_feature_row() -> None:
    join = LabelJoin(HORIZON)
    join.features("churn", ["1"], [NOON], {"miles": [7]})
    predict(join, ["1"], [NOON], miles=[5])
    assert join.labels("churn", ["1"], [NOON], [1.0]).features["miles"].tolist() == [5.0]


def test_a_feature_row_that_nobody_needs_any_more_is_not_kept() -> None:
    join = LabelJoin(HORIZON)
    predict(join, ["1"], [NOON], miles=[5])
    join.labels("churn", ["1"], [NOON], [1.0])
    join.features("churn", ["1"], [NOON], {"miles": [7]})
    assert join.counts()["waiting_features"] == 0


def test_a_feature_that_is_text_in_one_batch_is_text_in_what_comes_out() -> None:
    join = LabelJoin(HORIZON)
    predict(join, ["1"], [NOON], gate=[7])
    predict(join, ["2"], [NOON], gate=["B12"])
    gates = join.labels("churn", ["1", "2"], [NOON, NOON], [1.0, 0.0]).features["gate"]
    assert gates.tolist() == ["7", "B12"]


def test_a_feature_that_a_row_lacks_is_missing_there() -> None:
    join = LabelJoin(HORIZON)
    predict(join, ["1"], [NOON], miles=[5])
    predict(join, ["2"], [NOON], origin=["JFK"])
    features = join.labels("churn", ["1", "2"], [NOON, NOON], [1.0, 0.0]).features
    assert features["origin"].tolist() == [None, "JFK"]
    np.testing.assert_array_equal(features["miles"], [5.0, np.nan])


def test_the_first_label_counts_and_contradictions_are_counted_apart() -> None:
    join = LabelJoin(HORIZON)
    join.labels("churn", ["1", "1", "1"], [NOON] * 3, [1.0, 1.0, 0.0])
    assert predict(join, ["1"], [NOON]).labels.tolist() == [1.0]
    join.labels("churn", ["1", "1"], [NOON] * 2, [1.0, 0.0])
    assert (join.counts()["duplicates"], join.counts()["conflicts"]) == (2, 2)


def test_columns_of_different_lengths_are_refused() -> None:
    join = LabelJoin(HORIZON)
    with pytest.raises(ValueError, match="shorter"):
        join.labels("churn", ["1", "2"], [NOON, NOON], [1.0])


def test_a_label_whose_prediction_never_comes_is_handed_out_once_predictions_are_past_it() -> None:
    join = ready()
    join.labels("churn", ["lost"], [NOON], [1.0])
    tick(join, "predictions", NOON + HORIZON)
    assert join.expire().orphans == []
    tick(join, "predictions", NOON + 2 * HORIZON)
    assert [(one.model, one.id, one.label, one.at) for one in join.expire().orphans] == [
        ("churn", "lost", 1.0, NOON)
    ]
    assert join.expire().orphans == []


def test_a_prediction_whose_label_never_comes_is_counted_once_labels_are_past_it() -> None:
    join = ready()
    predict(join, ["lost"], [NOON])
    tick(join, "labels", NOON + 2 * HORIZON)
    join.expire()
    assert join.counts()["unlabelled"] == 1


def test_a_labelled_prediction_whose_features_never_come_is_handed_out_without_them() -> None:
    join = ready()
    join.predictions("churn", "3", ["bare"], [NOON], [0.25], {})
    join.labels("churn", ["bare"], [NOON], [1.0])
    tick(join, "labels", NOON + 2 * HORIZON)
    rows = join.expire().featureless["churn"]
    assert (rows.ids.tolist(), rows.scores.tolist(), dict(rows.features)) == (["bare"], [0.25], {})
    join.labels("churn", ["bare"], [NOON], [1.0])
    assert join.counts()["duplicates"] == 1


def test_predictions_read_far_ahead_of_their_labels_are_not_given_up() -> None:
    join = ready()
    ids, times = [str(row) for row in range(1000)], [NOON + HORIZON * row for row in range(1000)]
    predict(join, ids, times)
    join.expire()
    assert len(join.labels("churn", ids, times, [1.0] * 1000)) == 1000


def test_a_few_times_from_the_far_future_expire_nothing() -> None:
    join = ready()
    predict(join, ["1"], [NOON])
    tick(join, "labels", NOON * 1000, rows=CLOCK_ROWS // 2)
    join.expire()
    assert len(join.labels("churn", ["1"], [NOON], [1.0])) == 1


def test_a_clock_gone_mad_comes_back_with_the_sane_rows() -> None:
    join = ready()
    tick(join, "labels", NOON * 1000)
    join.expire()
    tick(join, "labels", NOON + 1)
    join.expire()
    predict(join, ["1", "2"], [NOON] * 2)
    join.expire()
    assert len(join.labels("churn", ["1"], [NOON], [1.0])) == 1
    tick(join, "labels", NOON + 2 * HORIZON)
    join.expire()
    assert join.counts()["waiting"] == 0


def test_more_than_the_capacity_is_never_kept_and_the_oldest_go_first() -> None:
    join = LabelJoin(FOREVER, capacity=100)
    for start in range(0, 1000, 50):
        predict(join, [str(start + row) for row in range(50)], [NOON + start + row for row in range(50)])
        join.expire()
        assert join.counts()["waiting"] <= 100
    newest = [str(row) for row in range(950, 1000)]
    assert len(join.labels("churn", newest, [NOON + 1000] * 50, [1.0] * 50)) == 50


def test_ids_are_remembered_for_the_horizon_and_then_forgotten() -> None:
    join = ready()
    predict(join, ["1"], [NOON])
    join.labels("churn", ["1"], [NOON], [1.0])
    assert join.counts("churn")["remembered"] == CLOCK_ROWS + 1
    tick(join, "labels", NOON + 2 * HORIZON)
    tick(join, "predictions", NOON + 2 * HORIZON)
    join.expire()
    assert join.counts("churn")["remembered"] == 0
