"""What tests of your own code need: the behaviour that each detector must have.

In your tests:

    from driftloop.testing import DetectorContract

    class TestMine(DetectorContract):
        def made(self, channels):
            return Mine(channels, delta=1e-6)
"""

from driftloop.mlops_core.drift.detector_contract import DetectorContract

__all__ = ("DetectorContract",)
