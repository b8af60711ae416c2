"""Drift quality: what holds for any seed, on streams of `make bench-drift`. The long ones stay there."""

import numpy as np
import pytest

from benchmarks.drift_quality import cases, ours
from benchmarks.drift_quality.cases import CATEGORIES, Case, named
from driftloop.mlops_core.drift.channels import Channels
from driftloop.mlops_core.drift.significance import Significance

COLUMNS, STABLE, LONG = 20, 5_000, 5_000
SETTLED = 30_000
"""ADWIN is quicker the more it has seen; the table speaks of streams that have run for a while."""
CHANGES = {case.name: case for case in cases.CHANGES}


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_the_table_is_missed(change: str, rng: np.random.Generator) -> None:
    found = ours.trials(CHANGES[change], rng, COLUMNS, STABLE, LONG)
    assert [trial.delay for trial in found if trial.delay is None] == []


@pytest.mark.parametrize("change", CHANGES)
def test_half_of_the_changes_are_found_within_half_as_much_again_as_the_table_says(
    change: str, rng: np.random.Generator
) -> None:
    case = CHANGES[change]
    assert case.within is not None
    found = ours.trials(case, rng, 2 * COLUMNS, SETTLED, LONG)
    delays = sorted(trial.delay or LONG for trial in found)
    assert delays[len(delays) // 2] <= 1.5 * case.within


def test_a_value_never_seen_in_training_needs_less_proof_than_a_rare_one(rng: np.random.Generator) -> None:
    flags = {"rare": 0.005, **CATEGORIES}
    profile = ours.profiled(named(cases.shared(flags)(rng, 1, 10_000)))
    channels = Channels.of(profile)
    severities = np.full((len(profile.columns), channels.used.shape[1] + 1), 0.3)
    rows = np.full(len(profile.columns), 128)
    sure = dict(
        zip(
            channels.names[0],
            Significance.of(channels, profile).significant(severities, rows)[0],
            strict=False,
        )
    )
    assert sure["share of (unseen)"] == 0.3
    assert sure["share of (other)"] == 0.0


def test_a_change_after_values_that_are_none_is_found_within_512_rows(rng: np.random.Generator) -> None:
    case = Case("spoiled", cases.normal(), cases.normal(1.0))
    stream = case.stream(rng, COLUMNS, STABLE, 512)
    for value in cases.BAD:
        stream[:, rng.integers(0, STABLE, 5)] = value
    profile = ours.profiled(named(case.before(rng, COLUMNS, ours.REFERENCE)))
    found = ours.alarms(profile, named(stream))
    assert all(any(at > STABLE for at in alarms) for alarms in found.values())
