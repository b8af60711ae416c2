"""For the tests of your own code: the promises of a detector and of a target, and ports in memory.

In your tests:

    from driftloop.testing import DetectorContract

    class TestMine(DetectorContract):
        def make_detector(self, channels):
            return Mine(channels, delta=1e-6)
"""

from driftloop.infra.adapters.memory import MemoryExampleStore, MemoryTarget
from driftloop.infra.serving.target_contract import TargetContract
from driftloop.mlops_core.drift.detector_contract import DetectorContract

__all__ = ("DetectorContract", "MemoryExampleStore", "MemoryTarget", "TargetContract")
