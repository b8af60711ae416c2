"""What listens to a stream's channels: a detector for means of 32 rows, and one for shapes of 256.

From here on an alarm is of a column; which channel of it gave the alarm is not known, nor needed.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from driftloop.mlops_core.data.features import Floats
from driftloop.mlops_core.drift.channels import SHAPE_BATCHES, Channels
from driftloop.mlops_core.drift.detector import SCALE, DetectorFactory
from driftloop.mlops_core.drift.microbatches import ROWS, Counts, Times

Alarms = Mapping[int, list[tuple[int, int]]]
"""Index of a micro-batch -> the columns that alarmed there, and since which one they are otherwise."""


class ChannelDetectors:
    """The detectors of all channels that can change."""

    def __init__(self, channels: Channels, delta: float, detector: DetectorFactory) -> None:
        self._channels = channels
        self._plain = detector(int(channels.used.sum()), delta)
        self._shape = detector(len(channels.shaped), delta)

    def alarms(self, index: int, new: int, history: Counts, spans: Times) -> Alarms:
        """What is heard in the `new` micro-batches at the end of `history`, `index` having come before them.

        `history` (k, columns, bins) and `spans` (k, 2) reach back so far that a shape can be completed.
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
        """What the detectors remember."""
        detectors = {"plain": self._plain, "shape": self._shape}
        return {name: np.frombuffer(one.dump(), dtype=np.uint8) for name, one in detectors.items()}

    def restore(self, arrays: Mapping[str, NDArray[np.uint8]]) -> None:
        """Go on where `state` was taken."""
        self._plain.load(arrays["plain"].tobytes())
        self._shape.load(arrays["shape"].tobytes())

    def _shapes(self, index: int, new: int, history: Counts, spans: Times) -> Floats:
        """The shape of each group of 8 micro-batches that the newest complete, (shaped, groups)."""
        first = -index % SHAPE_BATCHES or SHAPE_BATCHES
        groups = (new - first) // SHAPE_BATCHES + 1 if new >= first else 0
        start = len(history) - new + first - SHAPE_BATCHES
        chosen = slice(start, start + groups * SHAPE_BATCHES)
        grouped = history[chosen].reshape(groups, SHAPE_BATCHES, *history.shape[1:])
        times = spans[chosen].reshape(groups, SHAPE_BATCHES, 2)
        return self._channels.shapes(grouped.sum(axis=1, dtype=np.int64), times).T
