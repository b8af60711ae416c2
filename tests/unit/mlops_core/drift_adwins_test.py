"""An `AdwinBank` alarms at the same values as river's ADWIN, also after restarts."""

from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import pytest
from river.drift import ADWIN

from driftloop.mlops_core.drift import serialization
from driftloop.mlops_core.drift.adwin_bank import LONGEST_STEADY, AdwinBank
from driftloop.mlops_core.errors import InvalidData


def rivers_own(values: np.ndarray, delta: float, clock: int) -> list[tuple[int, int]]:
    """(position, channel) of each alarm, by river's public interface."""
    found = []
    for channel, series in enumerate(values.tolist()):
        detector = ADWIN(delta=delta, clock=clock)
        for position, value in enumerate(series):
            detector.update(value)
            if detector.drift_detected:
                found.append((position, channel))
    return sorted(found)


@pytest.fixture
def values() -> np.ndarray:
    random = np.random.default_rng(11)
    levels = np.repeat(random.normal(0, 3, size=(5, 12)), 250, axis=1)
    return levels + random.normal(0, 2, size=levels.shape)


@pytest.mark.parametrize("clock", [1, 32])
@pytest.mark.parametrize("size", [1, 7, 400, 3000])
def test_alarms_are_rivers_own_however_the_values_are_cut(values: np.ndarray, clock: int, size: int) -> None:
    adwins, found = AdwinBank(len(values), delta=0.002, clock=clock, kept=64), []
    for first in range(0, values.shape[1], size):
        if first == 3 * size:
            adwins = AdwinBank(len(values), delta=0.002, clock=clock, kept=64).load(adwins.dump())
        alarms = adwins.update(values[:, first : first + size])
        found += [(first + alarm.position, alarm.channel) for alarm in alarms]
    assert sorted(found) == rivers_own(values, 0.002, clock)
    assert len(found) > 20


def cut(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[:, first : first + size] for first in range(0, values.shape[1], size)]


def after_a_steady_start(seed: int) -> np.ndarray:
    """Channels that say one and the same for a while, then now and then another value, then a new level."""
    generator = np.random.default_rng(seed)
    rows = []
    for steady in (0, 1, 5, 31, 200, 801):
        now_and_then = np.where(generator.random(400) < 0.1, generator.normal(size=400), 0.0)
        changed = generator.normal(3, 1, size=1600 - steady)
        rows.append(generator.normal() + np.concatenate([np.zeros(steady), now_and_then, changed]))
    return np.stack(rows)


@pytest.mark.parametrize("size", [1, 7, 400, 2000])
def test_what_was_only_counted_is_heard_as_if_it_had_been_fed(seed: int, size: int) -> None:
    values = after_a_steady_start(seed)
    whole = AdwinBank(len(values), delta=0.002, clock=1, kept=64)
    alarms = whole.update(values)
    assert [(one.position, one.channel) for one in sorted(alarms, key=lambda one: one.position)] == sorted(
        rivers_own(values, 0.002, 1)
    )
    adwins, found = AdwinBank(len(values), delta=0.002, clock=1, kept=64), []
    for number, part in enumerate(cut(values, size)):
        adwins = AdwinBank(len(values), delta=0.002, clock=1, kept=64).load(adwins.dump())
        found += [
            (number * size + one.position, one.channel, one.width, one.before) for one in adwins.update(part)
        ]
    assert sorted(found) == sorted((one.position, one.channel, one.width, one.before) for one in alarms)
    assert adwins.dump() == whole.dump()


@pytest.mark.parametrize("delta", [0.002, 1e-6])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e3])
def test_rivers_own_says_nothing_of_equal_values(seed: int, delta: float, scale: float) -> None:
    level = float(np.random.default_rng(seed).normal(0, scale))
    detector = ADWIN(delta=delta, clock=1)
    for _ in range(LONGEST_STEADY // 4):
        detector.update(level)
        assert not detector.drift_detected, level


def test_equal_values_beyond_the_longest_memory_are_as_many_as_it(seed: int) -> None:
    level = np.random.default_rng(seed).normal()
    steady, changed = np.full((1, 4000), level), np.full((1, 4000), level + 3)
    long = AdwinBank(1, delta=1e-6, clock=1, kept=64)
    for _ in range(LONGEST_STEADY // 4000 + 50):
        assert long.update(steady) == []
    longest = AdwinBank(1, delta=1e-6, clock=1, kept=64)
    for _ in range(LONGEST_STEADY // 4000):
        longest.update(steady)
    found = [one.position for one in longest.update(changed)]
    assert found
    assert [one.position for one in long.update(changed)] == found


def bank(channels: int, delta: float = 0.002) -> AdwinBank:
    return AdwinBank(channels, delta=delta, clock=1, kept=64)


@pytest.mark.parametrize("delta", [0.002, 1e-6])
def test_a_restart_at_any_value_gives_the_same_alarms_and_state(seed: int, delta: float) -> None:
    values = after_a_steady_start(seed)
    whole = bank(len(values), delta)
    alarms = whole.update(values)
    for restart in np.random.default_rng(seed).integers(0, values.shape[1], 25).tolist():
        first = bank(len(values), delta)
        found = first.update(values[:, :restart])
        second = bank(len(values), delta).load(first.dump())
        assert second.dump() == first.dump()
        found += [
            replace(alarm, position=alarm.position + restart) for alarm in second.update(values[:, restart:])
        ]
        assert sorted(found, key=astuple) == sorted(alarms, key=astuple), restart
        assert second.dump() == whole.dump()


def test_a_state_holds_every_number_of_rivers_windows(seed: int) -> None:
    """Fails when another river keeps its windows otherwise."""
    values = after_a_steady_start(seed)
    whole = bank(len(values))
    whole.update(values)
    loaded = bank(len(values)).load(whole.dump())
    states = [window.__getstate__() for window in whole._windows]
    assert [window.__getstate__() for window in loaded._windows] == states
    river = ADWIN(delta=0.002, clock=1)
    for value in values[0].tolist():
        river.update(value)
        if river.drift_detected:
            river = ADWIN(delta=0.002, clock=1)
    assert river._helper.__getstate__() == states[0]


def test_damaged_bytes_are_refused(seed: int) -> None:
    generator = np.random.default_rng(seed)
    whole = bank(6)
    whole.update(after_a_steady_start(seed))
    data = whole.dump()
    for place in generator.integers(0, len(data), 200).tolist():
        damaged = bytearray(data)
        damaged[place] ^= int(generator.integers(1, 256))
        with pytest.raises(InvalidData):
            bank(6).load(bytes(damaged))
        with pytest.raises(InvalidData):
            bank(6).load(data[:place])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sums", lambda sums: sums * np.nan),
        ("sums", lambda sums: sums + 1),
        ("filled", lambda filled: filled + 6),
        ("filled", lambda filled: filled * 0),
        ("levels", lambda levels: levels * 0),
        ("levels", lambda levels: levels[:-1]),
        ("totals", lambda totals: totals[:, 1:]),
        ("totals", lambda totals: totals.astype(np.float32)),
        ("counters", lambda counters: -counters - 1),
        ("variances", None),
    ],
)
def test_numbers_that_no_adwin_has_are_refused(
    seed: int, name: str, change: Callable[[np.ndarray], np.ndarray] | None
) -> None:
    """A forged state has a right checksum."""
    whole = bank(6)
    whole.update(after_a_steady_start(seed))
    meta, arrays = serialization.load_state(whole.dump())
    forged = (
        {**arrays, name: change(arrays[name])}
        if change
        else {key: arrays[key] for key in arrays if key != name}
    )
    with pytest.raises(InvalidData):
        bank(6).load(serialization.dump_state(meta, forged))
