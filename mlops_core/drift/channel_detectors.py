"""The detectors of a stream's channels: one for means of 32 rows, one for shapes of 256 rows.

An alarm is reported per column; which of its channels alarmed is not kept.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift.channels import SHAPE_BATCHES, Channels
from driftloop.mlops_core.drift.detector import SCALE, DetectorFactory
from driftloop.mlops_core.drift.microbatches import ROWS, Counts, Times

Alarms = Mapping[int, list[tuple[int, int]]]
"""Index of a micro-batch -> (column, index of the micro-batch at which it changed) of each alarm there."""


class ChannelDetectors:
    """A detector for the channels in use and one for the shapes."""

    def __init__(self, channels: Channels, delta: float, detector: DetectorFactory) -> None:
        self._channels = channels
        self._plain = detector(int(channels.used.sum()), delta)
        self._shape = detector(len(channels.shaped), delta)

    def update(self, index: int, new: int, history: Counts, spans: Times) -> Alarms:
        """The alarms of the `new` micro-batches at the end of `history`; `index` is the first of them.

        `history` (k, columns, bins) and `spans` (k, 2) reach back far enough to complete a shape.
        """
        alarms: dict[int, list[tuple[int, int]]] = {}
        columns, _ = np.nonzero(self._channels.used)
        held = len(history) - new
        sums = self._channels.sums(history[held:], spans[held:])[:, self._channels.used]
        for alarm in self._plain.update(sums.T * (SCALE / np.sqrt(ROWS))):
            now = index + alarm.position + 1
            alarms.setdefault(now, []).append((int(columns[alarm.channel]), now - alarm.width))
        first = index // SHAPE_BATCHES
        for alarm in self._shape.update(SCALE * self._shapes(index, new, history, spans)):
            group = first + alarm.position + 1
            found = int(self._channels.shaped[alarm.channel]), (group - alarm.width) * SHAPE_BATCHES
            alarms.setdefault(group * SHAPE_BATCHES, []).append(found)
        return alarms

    def state(self) -> dict[str, NDArray[np.uint8]]:
        """The state of both detectors, as arrays of bytes."""
        detectors = {"plain": self._plain, "shape": self._shape}
        return {name: np.frombuffer(detector.dump(), dtype=np.uint8) for name, detector in detectors.items()}

    def restore(self, arrays: Mapping[str, NDArray[np.uint8]]) -> None:
        """Continue from a `state`."""
        self._plain.load(arrays["plain"].tobytes())
        self._shape.load(arrays["shape"].tobytes())

    def _shapes(self, index: int, new: int, history: Counts, spans: Times) -> Floats:
        """Shapes (shaped, groups) of the groups of 8 micro-batches that the `new` ones complete."""
        first = -index % SHAPE_BATCHES or SHAPE_BATCHES
        groups = (new - first) // SHAPE_BATCHES + 1 if new >= first else 0
        start = len(history) - new + first - SHAPE_BATCHES
        chosen = slice(start, start + groups * SHAPE_BATCHES)
        grouped = history[chosen].reshape(groups, SHAPE_BATCHES, *history.shape[1:])
        times = spans[chosen].reshape(groups, SHAPE_BATCHES, 2)
        return self._channels.shapes(grouped.sum(axis=1, dtype=np.int64), times).T
