"""The promises of a detector, as tests that run on any detector; they need no test framework.

In your tests:

    from driftloop.testing import DetectorContract

    class TestMine(DetectorContract):
        def make_detector(self, channels):
            return Mine(channels, delta=1e-6)
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift.detector import SCALE, Alarm, Detector
from driftloop.mlops_core.errors import InvalidData

CHANNELS = 12
STABLE = 160
"""Values before the change: 5,120 rows."""
DELAY = 40
"""Values within which every channel must alarm on a shift of half a deviation of a row: 1,280 rows."""
SHIFT = 0.5 * np.sqrt(32) * SCALE
"""Half a deviation of a row, in the scale of a mean of 32 rows."""
NOISE = 20_000
"""Values of noise per allowed false alarm, at a delta of 1e-6 or less: 640,000 rows."""
STATE = 32_000
"""Bytes of state per channel, at most."""


class DetectorContract:
    """Subclass it and define `make_detector`; each test method checks one promise.

    The seed differs from run to run; an `AssertionError` names the seed and the broken promise.
    """

    seed: int | None = None
    """Set it to run a failure again."""

    def make_detector(self, channels: int) -> Detector:
        """A fresh detector with a delta of 1e-6."""
        raise NotImplementedError("define make_detector in your subclass")

    def test_how_values_are_cut_changes_nothing(self) -> None:
        """All values in one call, one value per call, or anything between: the alarms are the same."""
        values, rng = self._values_with_shift()
        whole = _sort_alarms(self.make_detector(CHANNELS).update(values))
        self._must(bool(whole), "a shift raises alarms")
        cuts = np.sort(rng.integers(0, values.shape[1], 20))
        self._must(
            _in_parts(self.make_detector(CHANNELS), values, cuts) == whole, "parts give what the whole gives"
        )
        each = np.arange(1, values.shape[1], dtype=np.int64)
        self._must(
            _in_parts(self.make_detector(CHANNELS), values, each) == whole, "single values give the same"
        )

    def test_a_restart_at_any_value_changes_nothing(self) -> None:
        """`load(dump())` between any two values, also within a change, gives the same alarms."""
        values, rng = self._values_with_shift()
        whole = _sort_alarms(self.make_detector(CHANNELS).update(values))
        for cut in [*rng.integers(1, values.shape[1], 5).tolist(), STABLE + 3]:
            first = self.make_detector(CHANNELS)
            found = first.update(values[:, :cut])
            found += _offset_alarms(
                self.make_detector(CHANNELS).load(first.dump()).update(values[:, cut:]), cut
            )
            self._must(_sort_alarms(found) == whole, f"a restart at value {cut} changes nothing")

    def test_the_same_values_give_the_same_alarms_and_state(self) -> None:
        """A detector draws no random numbers."""
        values, _ = self._values_with_shift()
        first, second = self.make_detector(CHANNELS), self.make_detector(CHANNELS)
        self._must(first.update(values) == second.update(values), "equal values give equal alarms")
        self._must(first.dump() == second.dump(), "equal values give equal states")

    def test_channels_are_independent(self) -> None:
        """A channel alone alarms as it does beside others."""
        values, _ = self._values_with_shift()
        together = [
            alarm.position for alarm in self.make_detector(CHANNELS).update(values) if alarm.channel == 3
        ]
        alone = [alarm.position for alarm in self.make_detector(1).update(values[3:4])]
        self._must(alone == together, "a channel alone alarms as it does beside others")

    def test_its_input_is_not_changed(self) -> None:
        """`update` leaves the array of values as it is; other code reads it."""
        values, _ = self._values_with_shift()
        copy = values.copy()
        self.make_detector(CHANNELS).update(values)
        self._must(np.array_equal(values, copy), "the array of values stays as it is")

    def test_no_values_give_no_alarm(self) -> None:
        """An update with no values gives no alarm and leaves the state as it is."""
        detector = self.make_detector(CHANNELS)
        before = detector.dump()
        self._must(detector.update(np.empty((CHANNELS, 0))) == [], "no values, no alarms")
        self._must(detector.dump() == before, "no values leave the state as it is")

    def test_false_alarms_are_rare(self) -> None:
        """At most one in `NOISE` values without a change."""
        values = self._rng().normal(0, SCALE, (CHANNELS, 10_000))
        alarms = self.make_detector(CHANNELS).update(values)
        allowed = values.size // NOISE
        self._must(len(alarms) <= allowed, f"at most {allowed} alarms in noise; got {len(alarms)}")

    def test_a_shift_is_found_soon_and_dated(self) -> None:
        """An alarm comes within `DELAY` values, with the right direction, dated to 16 values."""
        values, _ = self._values_with_shift()
        alarms = self.make_detector(CHANNELS).update(values[:, : STABLE + DELAY])
        first = {alarm.channel: alarm for alarm in reversed(alarms) if alarm.position >= STABLE}
        self._must(len(first) == CHANNELS, f"a shift is found in every channel; got {sorted(first)}")
        for channel, alarm in first.items():
            up = channel % 2 == 0
            self._must((alarm.after > alarm.before) == up, "an alarm has the direction of the shift")
            began = alarm.position + 1 - alarm.width
            self._must(abs(began - STABLE) <= 16, f"the change is dated to 16 values; got {began}")

    def test_its_state_stays_small(self) -> None:
        """At most `STATE` bytes a channel after 10,000 values."""
        detector = self.make_detector(CHANNELS)
        for _ in range(5):
            detector.update(self._rng().normal(0, SCALE, (CHANNELS, 2000)))
        size = len(detector.dump()) / CHANNELS
        self._must(size <= STATE, f"at most {STATE} bytes a channel; got {size:.0f}")

    def test_a_state_of_other_channels_leaves_it_fresh(self) -> None:
        """`load` of a state with another number of channels is ignored: the detector stays fresh."""
        other = self.make_detector(CHANNELS + 1)
        other.update(self._rng().normal(0, SCALE, (CHANNELS + 1, 100)))
        fresh, loaded = self.make_detector(CHANNELS), self.make_detector(CHANNELS).load(other.dump())
        self._must(loaded.dump() == fresh.dump(), "the state of another number of channels is ignored")

    def test_a_damaged_state_is_refused(self) -> None:
        """`load` of half a state raises InvalidData."""
        data = self.make_detector(CHANNELS).dump()
        try:
            self.make_detector(CHANNELS).load(data[: len(data) // 2])
        except InvalidData:
            return
        raise AssertionError("half a state raises InvalidData")

    def _rng(self) -> np.random.Generator:
        if self.seed is None:
            self.seed = int(np.random.SeedSequence().generate_state(1)[0])
        return np.random.default_rng(self.seed)

    def _values_with_shift(self) -> tuple[Floats, np.random.Generator]:
        """Noise, then a shift (up in even channels, down in odd ones); and the generator that drew them."""
        rng = self._rng()
        values = rng.normal(0, SCALE, (CHANNELS, STABLE + 100))
        values[::2, STABLE:] += SHIFT
        values[1::2, STABLE:] -= SHIFT
        return values, rng

    def _must(self, held: bool, promise: str) -> None:
        if not held:
            raise AssertionError(f"broken promise (seed = {self.seed}): {promise}")


def _in_parts(detector: Detector, values: Floats, cuts: NDArray[np.int64]) -> list[Alarm]:
    found: list[Alarm] = []
    starts = [0, *cuts.tolist()]
    for start, part in zip(starts, np.split(values, cuts, axis=1), strict=True):
        found += _offset_alarms(detector.update(part), start)
    return _sort_alarms(found)


def _offset_alarms(alarms: list[Alarm], by: int) -> list[Alarm]:
    """The alarms with positions `by` later."""
    return [replace(alarm, position=alarm.position + by) for alarm in alarms]


def _sort_alarms(alarms: list[Alarm]) -> list[Alarm]:
    return sorted(alarms, key=lambda alarm: (alarm.position, alarm.channel))
