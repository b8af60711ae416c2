"""Our detectors keep the promises that are asked of users' detectors; a broken promise is named."""

import runpy
from importlib import metadata

import numpy as np
import pytest

from driftloop.infra.wiring.plugins import DETECTORS, find_detector
from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.drift.adwin_bank import AdwinBank, adwin
from driftloop.mlops_core.drift.cusum_bank import CusumBank
from driftloop.mlops_core.drift.detector import SCALE, Alarm, Detector
from driftloop.mlops_core.drift.detector_contract import DetectorContract
from driftloop.mlops_core.drift.distribution import DistributionDrift
from driftloop.mlops_core.drift.microbatches import Summariser
from driftloop.mlops_core.drift.verdicts import Opened
from driftloop.mlops_core.errors import Conflict
from driftloop.schemas.settings import DriftSettings
from tests.support.paths import ROOT

EXAMPLE = runpy.run_path(str(ROOT / "examples" / "own_detector.py"))
PROMISES = [name for name in vars(DetectorContract) if name.startswith("test_")]
Ewma = EXAMPLE["Ewma"]


class TestAdwins(DetectorContract):
    def make_detector(self, channels: int) -> Detector:
        return adwin(channels, delta=1e-6)


class TestCusums(DetectorContract):
    def make_detector(self, channels: int) -> Detector:
        return CusumBank(channels, delta=1e-6)


@pytest.mark.parametrize("promise", PROMISES)
def test_the_example_of_a_users_own_keeps_every_promise(promise: str) -> None:
    getattr(EXAMPLE["TestEwma"](), promise)()


def test_the_example_finds_what_it_says() -> None:
    (sentence,) = EXAMPLE["sentences"]()
    assert sentence.startswith("temp moved up")


class Forgetful(AdwinBank):
    """Loses the values that wait for the next call."""

    def update(self, values: Floats) -> list[Alarm]:
        return super().update(values[:, : values.shape[1] // 2 * 2])


class Nervous(Ewma):  # type: ignore[misc, valid-type]  # a class that an example made
    def __init__(self, channels: int, delta: float) -> None:
        super().__init__(channels, delta)
        self._limit /= 3


class Vain:
    """Writes into what it is given."""

    def __init__(self, channels: int) -> None:
        self._own = adwin(channels, 1e-6)

    def update(self, values: Floats) -> list[Alarm]:
        found = self._own.update(values)
        values[:] = 0
        return found

    def dump(self) -> bytes:
        return self._own.dump()

    def load(self, data: bytes) -> "Vain":
        self._own.load(data)
        return self


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (lambda channels: Forgetful(channels, 1e-6, 1, 128), "how_values_are_cut_changes_nothing"),
        (lambda channels: Nervous(channels, 1e-6), "false_alarms_are_rare"),
        (lambda channels: AdwinBank(channels, 1e-300, 1, 128), "a_shift_is_found_soon_and_dated"),
        (Vain, "its_input_is_not_changed"),
    ],
)
def test_a_broken_promise_is_told_with_its_seed(broken: object, promise: str) -> None:
    suite = DetectorContract()
    suite.make_detector = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(AssertionError, match=r"broken promise \(seed = \d+\)"):
        getattr(suite, f"test_{promise}")()


@pytest.mark.parametrize("name", ["adwin", "cusum"])
def test_each_detector_that_settings_can_name_finds_drift(name: str, rng: np.random.Generator) -> None:
    profile = Profile.of({"x": rng.normal(size=10_000)}, rng.random(10_000))
    stream = np.concatenate([rng.normal(size=4096), rng.normal(0.5, 1, 2048)])
    bins = profile.bins({"x": stream}, rng.random(6144), 6144)
    drift = DistributionDrift(profile, DriftSettings(detector=name), find_detector(name))
    found = [
        one for one in drift.update(*Summariser(2).add(bins, np.arange(6144))) if isinstance(one, Opened)
    ]
    assert [one.column for one in found] == ["x"]
    assert found[0].at >= 4096


def test_a_cusum_finds_half_a_deviation_sooner_than_adwin(rng: np.random.Generator) -> None:
    values = rng.normal(0, SCALE, (40, 200))
    values[:, 128:] += 0.5 * np.sqrt(32) * SCALE

    def delay(kind: Detector) -> float:
        first: dict[int, int] = {}
        for alarm in sorted(kind.update(values), key=lambda alarm: alarm.position):
            first.setdefault(alarm.channel, alarm.position)
        return float(np.median(list(first.values()))) - 128

    assert delay(CusumBank(40, 1e-6)) < delay(adwin(40, 1e-6))


def test_a_detector_of_another_package_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = metadata.EntryPoint("mine", "driftloop.mlops_core.drift.cusum_bank:CusumBank", DETECTORS)
    wrong = metadata.EntryPoint("wrong", "driftloop.mlops_core.drift.cusum_bank:limit", DETECTORS)
    gone = metadata.EntryPoint("gone", "driftloop.mlops_core.drift.cusum_bank:Gone", DETECTORS)
    found = {DETECTORS: [brought, wrong, gone]}
    monkeypatch.setattr("driftloop.infra.wiring.plugins.entry_points", lambda group: found[group])
    assert find_detector("mine") is CusumBank
    with pytest.raises(Conflict, match="'yours' is not installed; possible: adwin, cusum, gone, mine, wrong"):
        find_detector("yours")
    with pytest.raises(Conflict, match="has no attribute 'Gone'"):
        find_detector("gone")
    with pytest.raises(Conflict, match="'wrong' can't be called"):
        find_detector("wrong")


def test_another_detector_begins_fresh(rng: np.random.Generator) -> None:
    profile = Profile.of({"x": rng.normal(size=10_000)}, rng.random(10_000))
    bins = profile.bins({"x": rng.normal(size=4096)}, rng.random(4096), 4096)
    old = DistributionDrift(profile, DriftSettings())
    old.update(*Summariser(2).add(bins, np.arange(4096)))
    settings = DriftSettings(detector="cusum")
    loaded = DistributionDrift.load(old.dump(), profile, settings, CusumBank)
    assert loaded.rows == 4096
    assert (
        loaded._channel_detectors._plain.dump()
        == DistributionDrift(profile, settings, CusumBank)._channel_detectors._plain.dump()
    )
