"""What a detector promises, to be run on one of your own. Needs no test framework; pytest finds it.

In your tests:

    from driftloop.mlops_core.drift.detector_contract import DetectorContract

    class TestMine(DetectorContract):
        def made(self, channels: int) -> Detector:
            return Mine(channels, delta=1e-6)
"""

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift.detector import SCALE, Alarm, Detector
from driftloop.mlops_core.errors import InvalidData

CHANNELS = 12
STILL = 160
"""Values before the change: 5,120 rows."""
SOON = 40
"""Values within which half a deviation of a row is found, in every channel: 1,280 rows."""
SHIFT = 0.5 * np.sqrt(32) * SCALE
"""Half a deviation of a row, in the mean of 32."""
RESTLESS = 20_000
"""Values of noise in which one false alarm is borne, at a delta of 1e-6 or less: 640,000 rows."""
STATE = 32_000
"""Bytes per channel, at most, however much was fed."""


class DetectorContract:
    """Subclass it and say how a detector is `made`; each other method is a promise that raises where broken.

    The seed differs from run to run; an error names it.
    """

    seed: int | None = None
    """Set it to run a failure again."""

    def make_detector(self, channels: int) -> Detector:
        """A fresh detector with a delta of 1e-6."""
        raise NotImplementedError("say in your subclass how a detector is made")

    def test_how_values_are_cut_changes_nothing(self) -> None:
        """Whole, one by one, or anything between."""
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
        """Also while a change is being heard."""
        values, rng = self._values_with_shift()
        whole = _sort_alarms(self.make_detector(CHANNELS).update(values))
        for cut in [*rng.integers(1, values.shape[1], 5).tolist(), STILL + 3]:
            first = self.make_detector(CHANNELS)
            found = first.update(values[:, :cut])
            found += _offset_alarms(
                self.make_detector(CHANNELS).load(first.dump()).update(values[:, cut:]), cut
            )
            self._must(_sort_alarms(found) == whole, f"a restart at value {cut} changes nothing")

    def test_the_same_values_give_the_same_alarms_and_state(self) -> None:
        """No luck of its own."""
        values, _ = self._values_with_shift()
        one, other = self.make_detector(CHANNELS), self.make_detector(CHANNELS)
        self._must(one.update(values) == other.update(values), "equal values give equal alarms")
        self._must(one.dump() == other.dump(), "equal values give equal states")

    def test_channels_do_not_hear_each_other(self) -> None:
        """A channel alone says what it says among others."""
        values, _ = self._values_with_shift()
        together = [
            alarm.position for alarm in self.make_detector(CHANNELS).update(values) if alarm.channel == 3
        ]
        alone = [alarm.position for alarm in self.make_detector(1).update(values[3:4])]
        self._must(alone == together, "a channel alone alarms as it does among others")

    def test_its_input_is_not_changed(self) -> None:
        """Others read the same array."""
        values, _ = self._values_with_shift()
        copy = values.copy()
        self.make_detector(CHANNELS).update(values)
        self._must(np.array_equal(values, copy), "what is fed stays as it is")

    def test_nothing_fed_is_nothing_heard(self) -> None:
        """A chunk may complete no value."""
        detector = self.make_detector(CHANNELS)
        before = detector.dump()
        self._must(detector.update(np.empty((CHANNELS, 0))) == [], "no values, no alarms")
        self._must(detector.dump() == before, "no values leave the state as it is")

    def test_noise_raises_hardly_an_alarm(self) -> None:
        """One in `RESTLESS` values, at most."""
        values = self._rng().normal(0, SCALE, (CHANNELS, 10_000))
        alarms = self.make_detector(CHANNELS).update(values)
        allowed = values.size // RESTLESS
        self._must(len(alarms) <= allowed, f"at most {allowed} alarms in noise; got {len(alarms)}")

    def test_a_shift_is_found_soon_and_dated(self) -> None:
        """Up in the even channels, down in the odd ones; half a deviation of a row."""
        values, _ = self._values_with_shift()
        alarms = self.make_detector(CHANNELS).update(values[:, : STILL + SOON])
        first = {alarm.channel: alarm for alarm in reversed(alarms) if alarm.position >= STILL}
        self._must(len(first) == CHANNELS, f"a shift is found in every channel; got {sorted(first)}")
        for channel, alarm in first.items():
            up = channel % 2 == 0
            self._must((alarm.after > alarm.before) == up, "an alarm says which way the mean went")
            began = alarm.position + 1 - alarm.width
            self._must(abs(began - STILL) <= 16, f"the change is dated to 16 values; got {began}")

    def test_its_state_stays_small(self) -> None:
        """Whatever was fed."""
        detector = self.make_detector(CHANNELS)
        for _ in range(5):
            detector.update(self._rng().normal(0, SCALE, (CHANNELS, 2000)))
        size = len(detector.dump()) / CHANNELS
        self._must(size <= STATE, f"at most {STATE} bytes a channel; got {size:.0f}")

    def test_a_state_of_other_channels_leaves_it_fresh(self) -> None:
        """A version with other columns begins anew."""
        other = self.make_detector(CHANNELS + 1)
        other.update(self._rng().normal(0, SCALE, (CHANNELS + 1, 100)))
        fresh, loaded = self.make_detector(CHANNELS), self.make_detector(CHANNELS).load(other.dump())
        self._must(loaded.dump() == fresh.dump(), "the state of another number of channels is left out")

    def test_what_is_no_state_is_refused(self) -> None:
        """Instead of going on with nonsense."""
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
        """Noise, then a shift: up in the even channels, down in the odd ones; and what drew it."""
        rng = self._rng()
        values = rng.normal(0, SCALE, (CHANNELS, STILL + 100))
        values[::2, STILL:] += SHIFT
        values[1::2, STILL:] -= SHIFT
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
    """Positions in the whole stream."""
    return [Alarm(one.position + by, one.channel, one.width, one.before, one.after) for one in alarms]


def _sort_alarms(alarms: list[Alarm]) -> list[Alarm]:
    return sorted(alarms, key=lambda alarm: (alarm.position, alarm.channel))
