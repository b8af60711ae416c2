"""Single events gathered into the columns of a batch, one group a model, version and set of features.

An event is taken apart as soon as it is parsed: a thousand dicts that wait for each other leave the
processor's cache and keep the garbage collector busy, which costs as much as parsing them.
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
    """How the fields of a single event are called, and those of a batch."""

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
    """What the events of a group have in common."""

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
        """Where in the chunk each was."""
        self._names = list(shape.names or ())
        self._known = set(self._names)
        self._shared = len(shape.kind.shared)
        own = [single for single, _ in shape.kind.own]
        keys = [*shape.kind.shared, *own, *(() if shape.names is None else ("features",))]
        self._keys = len(keys)
        self._head = itemgetter(*keys)
        self._heads: list[tuple[Any, ...]] = []
        self._values: list[Any] = []
        """Features, row after row."""

    def add(self, place: int, fields: Fields) -> bool:
        """Take in an event, unless it has another shape or something else that its model must look at."""
        try:
            head = self._head(fields)
        except KeyError:
            return False
        if head[: self._shared] != self.shape.shared:
            return False
        if len(fields) != self._keys and not self._is_plain(fields):
            return False
        if self.shape.names is not None and not self._features(head[-1]):
            return False
        self._heads.append(head[self._shared :])
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

    def _is_plain(self, fields: Fields) -> bool:
        """Whether what is optional is beyond doubt."""
        entity = fields.get("entity")
        bare = self.shape.names is not None or "features" not in fields
        return bare and (entity is None or type(entity) is str) and codec.is_current_version(fields)

    def _features(self, features: Any) -> bool:
        """Take in the features if they are the group's, in whatever order."""
        if type(features) is not dict:
            return False
        if list(features) == self._names:
            self._values.extend(features.values())
        elif features.keys() == self._known:
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
        """Take in an event and return its group; if need be, as its model reads it. Raises Unreadable."""
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
    """An event as its model reads it, so that nothing in it is in doubt. Raises Unreadable."""
    return codec.validate_record(fields).model_dump(exclude_unset=True)
