"""Stable, suspected, drifted, resolved: the table, the masks that keep it for all columns, and m of n."""

from collections.abc import Iterator

import numpy as np
import pytest

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.episode_states import TABLE, Signal, after
from driftloop.mlops_core.drift.episodes import Episodes
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.verdicts import Closed, Measured, Opened, Verdict
from driftloop.schemas.events import DriftState
from driftloop.schemas.settings import DriftSettings, Settings, SettingsError

COLUMNS, WINDOW = 30, 32
LIVES = 20
"""Only a column's beginning shows what nothing alarmed of: 30 columns missed it once in some hundred runs."""
SEEN = tuple[DriftState, Signal, DriftState]


def lived(rng: np.random.Generator, confirmation: tuple[int, int], steps: int) -> Iterator[SEEN]:
    """What happens to columns with alarms and severities at random; signals are told by their effect."""
    episodes = Episodes.fresh(WINDOW, 0.25, 0.125, np.full(COLUMNS, 10**9))
    episodes.confirmation = confirmation
    level = np.zeros(COLUMNS)
    for now in range(1, steps):
        for column in np.flatnonzero(rng.random(COLUMNS) < 0.01).tolist():
            before = episodes.states[column]
            episodes.alarm(column, max(now - int(rng.integers(1, 64)), 0), now)
            yield before, Signal.ALARMED, episodes.states[column]
        level = np.where(rng.random(COLUMNS) < 0.03, rng.exponential(0.3, COLUMNS), level)
        states, watched = episodes.states, episodes.watched.copy()
        opened, closed = episodes.judge(level, now)
        for column, state in enumerate(episodes.states):
            if column in opened:
                yield states[column], Signal.CONFIRMED, state
            elif column in closed:
                told = [Signal.EASED, Signal.ALARMED] if watched[column] else [Signal.EASED]
                yield states[column], told[0], after(DriftState.DRIFTED, told[0])
                assert state is (DriftState.SUSPECTED if episodes.watched[column] else DriftState.RESOLVED)
            elif state is not states[column]:
                to_suspected = state is DriftState.SUSPECTED
                yield states[column], Signal.REACHED if to_suspected else Signal.LAPSED, state
        if now % WINDOW == 0:
            states = episodes.states
            episodes.clear_resolved()
            yield from ((a, Signal.MEASURED, b) for a, b in zip(states, episodes.states, strict=True))


@pytest.mark.parametrize("confirmation", [(1, 1), (2, 3), (3, 3)])
def test_masks_and_table_tell_the_same(rng: np.random.Generator, confirmation: tuple[int, int]) -> None:
    seen = [step for _ in range(LIVES) for step in lived(rng, confirmation, 400)]
    for before, signal, now in seen:
        assert now is after(before, signal), f"{before} got {signal} and became {now}"
    rows = {(before, signal) for before, signal, _ in seen}
    wanted = {(state, signal) for state, row in TABLE.items() for signal in row}
    repeated = {(DriftState.SUSPECTED, Signal.REACHED)}  # changes nothing, so that it can't be seen
    if confirmation[1] == 1:
        repeated.add((DriftState.STABLE, Signal.REACHED))
    else:
        repeated.add((DriftState.STABLE, Signal.CONFIRMED))  # suspected comes first
    assert wanted - rows == repeated


def watch(rng: np.random.Generator, stream: np.ndarray, confirm: str) -> list[Verdict]:
    profile = Profile.of({"x": rng.normal(size=20_000)}, np.resize([0.25, 0.75], 20_000))
    bins = profile.bins({"x": stream}, np.resize([0.25, 0.75], len(stream)), len(stream))
    counts, at, _ = Summariser(2).add(bins, np.arange(len(stream)))
    return list(DistributionDrift(profile, DriftSettings(confirm=confirm)).update(counts, at))


def changes(verdicts: list[Verdict]) -> list[Opened | Closed]:
    return [one for one in verdicts if isinstance(one, Opened | Closed)]


def test_a_change_that_stays_is_confirmed_a_window_later(rng: np.random.Generator) -> None:
    stream = np.concatenate([rng.normal(size=4096), rng.normal(1, 1, 6000)])
    seed = int(rng.integers(2**32))
    [at_once] = changes(watch(np.random.default_rng(seed), stream, "1 of 1"))
    [confirmed] = changes(watch(np.random.default_rng(seed), stream, "2 of 3"))
    assert confirmed.at - at_once.at == 1024
    assert isinstance(confirmed, Opened)
    assert abs(confirmed.changed_at - 4096) <= 512


def test_what_is_over_at_the_third_check_was_suspected_and_opens_nothing(rng: np.random.Generator) -> None:
    stream = np.concatenate([rng.normal(size=4096), rng.normal(1, 1, 700), rng.normal(size=8192)])
    seed = int(rng.integers(2**32))
    assert changes(watch(np.random.default_rng(seed), stream, "1 of 1"))
    verdicts = watch(np.random.default_rng(seed), stream, "3 of 3")
    assert changes(verdicts) == []
    states = [one.columns["x"].state for one in verdicts if isinstance(one, Measured)]
    assert DriftState.DRIFTED not in states
    # A false alarm may make the last window suspected again, so not the last state is asked for.
    assert DriftState.STABLE in states[states.index(DriftState.SUSPECTED) :]


def test_windows_say_what_a_column_is(rng: np.random.Generator) -> None:
    stream = np.concatenate([rng.normal(size=4096), rng.normal(1, 1, 8192), rng.normal(size=8192)])
    windows = [one.columns["x"] for one in watch(rng, stream, "1 of 1") if isinstance(one, Measured)]
    states = [one.state for one in windows]
    assert states[:4] == [DriftState.STABLE] * 4
    assert states[4:11] == [DriftState.DRIFTED] * 7
    over = states[max(place for place, one in enumerate(windows) if one.drifted) + 1]
    assert over in {DriftState.RESOLVED, DriftState.SUSPECTED}  # the way back may be an alarm, too
    assert states[-1] is DriftState.STABLE
    assert [one.drifted for one in windows] == [state is DriftState.DRIFTED for state in states]


def test_a_restart_amid_checks_changes_nothing(rng: np.random.Generator) -> None:
    settings = DriftSettings(confirm="3 of 4")
    profile = Profile.of({"x": rng.normal(size=20_000)}, np.resize([0.25, 0.75], 20_000))
    stream = np.concatenate([rng.normal(size=4096), rng.normal(0.8, 1, 8192), rng.normal(size=4096)])
    bins = profile.bins({"x": stream}, np.resize([0.25, 0.75], len(stream)), len(stream))
    counts, at, _ = Summariser(2).add(bins, np.arange(len(stream)))
    whole = DistributionDrift(profile, settings).update(counts, at)
    assert changes(whole)
    for cut in [*rng.integers(1, len(counts), 3).tolist(), 4096 // 32 + 40]:
        first = DistributionDrift(profile, settings)
        parts = first.update(counts[:cut], at[:cut])
        again = DistributionDrift.load(first.dump(), profile, settings)
        assert [*parts, *again.update(counts[cut:], at[cut:])] == whole


def test_an_alarm_after_a_silence_points_to_no_row_that_was_told_of() -> None:
    episodes = Episodes.fresh(WINDOW, 0.25, 0.125, np.full(1, 10**9))
    for now in range(40, 51):
        episodes.judge(np.ones(1), now, suppressed=np.ones(1, dtype=np.bool_))
    episodes.alarm(0, changed=20, now=52)
    assert [episodes.judge(np.ones(1), now)[0] for now in range(52, 56)] == [[], [], [0], []]
    assert episodes.changed[0] == 54


@pytest.mark.parametrize("nonsense", ["3 of 2", "0 of 1", "1 of 99", "twice"])
def test_a_confirmation_that_cannot_be_is_refused(nonsense: str) -> None:
    with pytest.raises(SettingsError, match="drift.confirm"):
        Settings.load(drift={"confirm": nonsense})
