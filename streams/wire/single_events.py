"""Groups single events by model, version and set of features, and makes columns of each group.

The values of an event are appended to lists as soon as it is parsed: to keep a thousand dicts costs as much
as parsing them, by cache misses and the garbage collector.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from driftloop.mlops_core.data.rows import RowKind
from driftloop.streams.wire import codec

Fields = dict[str, Any]
"""A message as parsed."""


@dataclass(frozen=True)
class EventFields:
    """Names of the fields of a single event, and of the columns of a batch."""

    batch: RowKind
    shared: tuple[str, ...]
    own: tuple[tuple[str, str], ...]
    """A row's fields: in the event and in the batch."""
    featured: bool
    """Whether it has features and an entity."""


KINDS: Mapping[str, EventFields] = {
    "prediction": EventFields(
        RowKind.PREDICTIONS,
        ("type", "model", "version"),
        (("id", "ids"), ("at", "at"), ("score", "scores")),
        featured=True,
    ),
    "features": EventFields(
        RowKind.FEATURES, ("type", "model"), (("id", "ids"), ("at", "at")), featured=True
    ),
    "label": EventFields(
        RowKind.LABELS, ("type", "model"), (("id", "ids"), ("at", "at"), ("label", "labels")), featured=False
    ),
}


@dataclass(frozen=True)
class GroupKey:
    """What the events of a group share."""

    kind: EventFields
    shared: tuple[Any, ...]
    names: tuple[str, ...] | None
    """Of the features, in the first event's order; None if there is no such key."""

    @classmethod
    def of(cls, fields: Fields) -> "GroupKey":
        """The shape of an event of one of `KINDS`."""
        kind, features = KINDS[fields["type"]], fields.get("features")
        names = tuple(features) if kind.featured and type(features) is dict else None
        return cls(kind, tuple(fields.get(name) for name in kind.shared), names)

    @property
    def key(self) -> object:
        """Equal for events that belong together."""
        return (*map(repr, self.shared), None if self.names is None else frozenset(self.names))


class Group:
    """Events of one shape, as columns."""

    def __init__(self, shape: GroupKey) -> None:
        self.shape = shape
        self.places: list[int] = []
        """Index of each event's record in the chunk."""
        self._names = list(shape.names or ())
        self._name_set = set(self._names)
        self._shared_count = len(shape.kind.shared)
        own = [single for single, _ in shape.kind.own]
        keys = [*shape.kind.shared, *own, *(() if shape.names is None else ("features",))]
        self._key_count = len(keys)
        self._head = itemgetter(*keys)
        self._heads: list[tuple[Any, ...]] = []
        self._values: list[Any] = []
        """Features, row after row."""

    def add(self, place: int, fields: Fields) -> bool:
        """Add an event; False if it has another key, or must be validated by its model."""
        try:
            head = self._head(fields)
        except KeyError:
            return False
        if head[: self._shared_count] != self.shape.shared:
            return False
        if len(fields) != self._key_count and not self._has_valid_header(fields):
            return False
        if self.shape.names is not None and not self._take_features(head[-1]):
            return False
        self._heads.append(head[self._shared_count :])
        self.places.append(place)
        return True

    def batch(self) -> Fields:
        """The events as one batch."""
        kind = self.shape.kind
        batch: Fields = dict(zip(kind.shared, self.shape.shared, strict=True))
        batch["type"] = kind.batch.value
        for (_, name), column in zip(kind.own, zip(*self._heads, strict=True), strict=False):
            batch[name] = list(column)
        if self.shape.names is not None:
            width = len(self._names)
            batch["features"] = {name: self._values[n::width] for n, name in enumerate(self._names)}
        return batch

    def _has_valid_header(self, fields: Fields) -> bool:
        """Whether the optional fields are valid for certain."""
        entity = fields.get("entity")
        bare = self.shape.names is not None or "features" not in fields
        return bare and (entity is None or type(entity) is str) and codec.is_current_version(fields)

    def _take_features(self, features: Any) -> bool:
        """Append the values if the features are the group's, in any order."""
        if type(features) is not dict:
            return False
        if list(features) == self._names:
            self._values.extend(features.values())
        elif features.keys() == self._name_set:
            self._values.extend([features[name] for name in self._names])
        else:
            return False
        return True


class Groups:
    """All groups of a chunk."""

    def __init__(self) -> None:
        self._groups: dict[object, Group] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def add(self, place: int, fields: Fields) -> Group:
        """Add an event, if need be as its model reads it; returns its group. Raises Unreadable."""
        group = self._of(fields)
        if not group.add(place, fields):
            read = via_model(fields)
            group = self._of(read)
            group.add(place, read)
        return group

    def _of(self, fields: Fields) -> Group:
        shape = GroupKey.of(fields)
        return self._groups.setdefault(shape.key, Group(shape))


def via_model(fields: Fields) -> Fields:
    """An event as its model reads it. Raises Unreadable."""
    return codec.validate_record(fields).model_dump(exclude_unset=True)
