"""What the hot paths cost, in CPU, as ratios inside one run: `make bench`."""

import time
from collections.abc import Callable

import numpy as np
from river.drift import ADWIN

from mlops_core.data.features import Column
from mlops_core.data.join import LabelJoin
from mlops_core.data.profile import Profile
from mlops_core.drift.distribution import DistributionDrift
from mlops_core.drift.microbatches import Summariser
from schemas.records import PredictionBatch
from schemas.settings import DriftSettings
from streams import codec

ROWS = 40_000
CHUNK = 1000
FEATURES = 20
Columns = dict[str, Column]


def main() -> None:
    """Print the table."""
    random = np.random.default_rng(7)
    reference: Columns = {f"x{n}": random.normal(size=10_000) for n in range(FEATURES)}
    rows: Columns = {f"x{n}": random.normal(size=ROWS) for n in range(FEATURES)}
    profile = Profile.of(reference, random.random(10_000))
    plain = _per_second(lambda: _plain_river(rows))
    measured = {
        "one river ADWIN per feature per event": plain,
        "driftloop, bins and detectors": _per_second(lambda: _driftloop(profile, rows, random)),
        "decode a columnar batch of 1,000": _per_second(lambda: _decode(rows)),
        "label join, predictions and labels": _per_second(lambda: _join(rows)),
    }
    print(f"| {FEATURES} features, {ROWS:,} rows, one core | rows per CPU second | ratio |\n|---|---|---|")  # noqa: T201
    for name, rate in measured.items():
        print(f"| {name} | {rate:,.0f} | {rate / plain:.1f} |")  # noqa: T201


def _per_second(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return ROWS / (time.process_time() - began)


def _plain_river(rows: Columns) -> None:
    """As a newcomer would write it."""
    detectors = {name: ADWIN() for name in rows}
    for values in zip(*(np.asarray(column).tolist() for column in rows.values()), strict=True):
        for detector, value in zip(detectors.values(), values, strict=True):
            detector.update(value)


def _driftloop(profile: Profile, rows: Columns, random: np.random.Generator) -> None:
    summariser = Summariser(len(profile.columns))
    drift = DistributionDrift(profile, DriftSettings())
    scores = random.random(ROWS)
    for first in range(0, ROWS, CHUNK):
        part: Columns = {name: column[first : first + CHUNK] for name, column in rows.items()}
        bins = profile.bins(part, scores[first : first + CHUNK], CHUNK)
        drift.update(*summariser.add(bins, np.arange(first, first + CHUNK)))


def _decode(rows: Columns) -> None:
    part = {name: np.asarray(column[:CHUNK]).tolist() for name, column in rows.items()}
    ids = [f"id-{n}" for n in range(CHUNK)]
    at, scores = list(range(CHUNK)), [0.5] * CHUNK
    batch = PredictionBatch(model="m", version="1", ids=ids, at=at, scores=scores, features=part)
    value = codec.encode(batch)
    for _ in range(ROWS // CHUNK):
        codec.decode_record(value)


def _join(rows: Columns) -> None:
    join = LabelJoin(horizon_ms=3_600_000)
    for first in range(0, ROWS, CHUNK):
        ids = [f"id-{n}" for n in range(first, first + CHUNK)]
        at = list(range(first, first + CHUNK))
        part: Columns = {name: column[first : first + CHUNK] for name, column in rows.items()}
        join.predictions("m", "1", ids, at, [0.5] * CHUNK, part)
        join.labels("m", ids, at, [1.0] * CHUNK)
        join.expire()


if __name__ == "__main__":
    main()
