"""What a page keeps: bounded series and replaceable parts, both stamped so that news can be told apart."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key")
Kept = TypeVar("Kept")

REMEMBERED = 20_000
"""Events that are remembered by id: what is told again within them changes nothing."""


class Ring(Generic[Item]):
    """The newest `size` items, each with the sequence number at which it came."""

    def __init__(self, size: int) -> None:
        self._items: deque[tuple[int, Item]] = deque(maxlen=size)

    def add(self, stamp: int, item: Item) -> None:
        """Append; the oldest falls out when the ring is full."""
        self._items.append((stamp, item))

    def __deepcopy__(self, _memo: object) -> "Ring[Item]":
        """A ring of its own with the same items, which nobody changes."""
        copied: Ring[Item] = Ring(self.size)
        copied._items.extend(self._items)
        return copied

    def since(self, stamp: int) -> Sequence[Item]:
        """Items that came after `stamp`, oldest first."""
        newer = list(takewhile(lambda kept: kept[0] > stamp, reversed(self._items)))
        return [item for _, item in reversed(newer)]

    @property
    def items(self) -> Sequence[Item]:
        """Everything kept, oldest first."""
        return [item for _, item in self._items]

    @property
    def size(self) -> int:
        """How many it keeps at most."""
        return self._items.maxlen or 0


class Thinned(Generic[Item]):
    """At most `size` items from the first to the newest: when full, every second of the older half goes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.amended = 0
        """The stamp at which items were last removed: who looked before that must look at all again."""
        self._items: list[tuple[int, Item]] = []

    def add(self, stamp: int, item: Item) -> None:
        """Append; older items become sparser."""
        self._items.append((stamp, item))
        if len(self._items) > self.size:
            half = len(self._items) // 2
            self._items = [*self._items[:half:2], *self._items[half:]]
            self.amended = stamp

    def since(self, stamp: int) -> Sequence[Item]:
        """Items that came after `stamp`, oldest first."""
        return [item for came, item in self._items if came > stamp]

    @property
    def items(self) -> Sequence[Item]:
        """Everything kept, oldest first."""
        return self.since(-1)


class Parts:
    """Named values; each remembers when it last became another one."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, object]] = {}

    def put(self, stamp: int, name: str, value: object) -> None:
        """Replace a part; the same value again is no news."""
        if name not in self._kept or self._kept[name][1] != value:
            self._kept[name] = (stamp, value)

    def since(self, stamp: int) -> Mapping[str, object]:
        """Parts that changed after `stamp`."""
        return {name: value for name, (changed, value) in self._kept.items() if changed > stamp}


def remember(kept: dict[str, Kept], key: str, value: Kept) -> None:
    """Keep `value`; the oldest goes when there are too many."""
    kept[key] = value
    bound(kept, REMEMBERED)


def bound(kept: dict[Key, Kept], most: int) -> None:
    """Let go of the oldest until there are `most`."""
    while len(kept) > most:
        kept.pop(next(iter(kept)))


def renew(kept: dict[Key, Kept], key: Key, value: Kept, most: int) -> None:
    """Keep `value` as the newest of `most`, whatever its key had before."""
    kept.pop(key, None)
    kept[key] = value
    bound(kept, most)
