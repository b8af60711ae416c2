"""The data plane: predictions, feature rows and labels, one at a time or as a columnar batch.

A record meets its label by `id`, so `id` is also the Kafka key. Times are UTC, in milliseconds since
1970 (`at`); a number that is not finite counts as missing. A single record is what any client can
write by hand (`kcat` will do); a batch holds many rows of one model, column by column, and is what the
Publisher and our replicas send.
"""

from collections.abc import Mapping, Sequence, Sized
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from driftloop.schemas import column_types, topics
from driftloop.schemas.messages import Message

SCHEMA_VERSION = 1
"""The version of messages that this code reads and writes; a newer one is a dead letter."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
Value = bool | int | float | str | None
"""One feature's value; text is a category, None is missing."""
Millis = Annotated[int, Field(ge=0, lt=1 << 53)]
Number = Annotated[float, Field(allow_inf_nan=False)]

Names = Annotated[Sequence[Name], column_types.names(Sequence[Name], 200)]
Times = Annotated[Sequence[int] | column_types.Array, column_types.whole(Sequence[Millis], 1 << 53)]
Numbers = Annotated[Sequence[float] | column_types.Array, column_types.finite(Sequence[Number])]
Entities = Annotated[Sequence[str | None], column_types.texts(Sequence[str | None])]
Values = Annotated[Sequence[Value] | column_types.Array, column_types.scalars(Sequence[Value])]
"""A feature's column; an array of numbers is kept as it is, and NaN in it is missing."""


class Record(Message):
    """What every data-plane message has."""

    schema_version: Literal[1] = 1
    model: Name
    """Which model, by its registered name."""


class Prediction(Record):
    """A model answered: the score it gave, and the features it saw (here or in a `FeatureRow`)."""

    kafka_topic: ClassVar = topics.PREDICTIONS
    type: Literal["prediction"] = "prediction"
    version: Name
    """The model's version that answered."""
    id: Name
    """The caller's id of this prediction; its label comes with the same one."""
    entity: str | None = None
    """Whom or what the prediction is about; an entity stays on one version in a rollout."""
    at: Millis
    score: Number
    """Probability of the positive class, or the predicted number."""
    features: Mapping[str, Value] = Field(default_factory=dict)


class FeatureRow(Record):
    """Features of a prediction, where another service knows them."""

    kafka_topic: ClassVar = topics.FEATURES
    type: Literal["features"] = "features"
    id: Name
    entity: str | None = None
    at: Millis
    features: Mapping[str, Value]


class Label(Record):
    """The truth about an earlier prediction, however late."""

    kafka_topic: ClassVar = topics.LABELS
    type: Literal["label"] = "label"
    id: Name
    at: Millis
    label: Number
    """1 or 0 for a class, else the true number."""


class Batch(Record):
    """Columns of equal length; row i of the batch is entry i of every column.

    Numbers may be numpy arrays, which are not copied. Batches with arrays are not to be compared by `==`.
    """

    ids: Names
    at: Times

    def __len__(self) -> int:
        return len(self.ids)

    def _columns(self) -> Mapping[str, Sized | None]:
        return {"at": self.at}

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        for name, column in self._columns().items():
            if column is not None and len(column) != len(self.ids):
                raise ValueError(f"column {name!r} has {len(column)} rows, ids has {len(self.ids)}")
        return self


class PredictionBatch(Batch):
    """Many predictions of one version of one model."""

    kafka_topic: ClassVar = topics.PREDICTIONS
    type: Literal["predictions"] = "predictions"
    version: Name
    entities: Entities | None = None
    scores: Numbers
    features: Mapping[str, Values] = Field(default_factory=dict)

    def _columns(self) -> Mapping[str, Sized | None]:
        return {"at": self.at, "entities": self.entities, "scores": self.scores, **self.features}


class FeatureBatch(Batch):
    """Many feature rows of one model."""

    kafka_topic: ClassVar = topics.FEATURES
    type: Literal["feature_rows"] = "feature_rows"
    entities: Entities | None = None
    features: Mapping[str, Values]

    def _columns(self) -> Mapping[str, Sized | None]:
        return {"at": self.at, "entities": self.entities, **self.features}


class LabelBatch(Batch):
    """Many labels of one model."""

    kafka_topic: ClassVar = topics.LABELS
    type: Literal["labels"] = "labels"
    labels: Numbers

    def _columns(self) -> Mapping[str, Sized | None]:
        return {"at": self.at, "labels": self.labels}


AnyRecord = Prediction | FeatureRow | Label | PredictionBatch | FeatureBatch | LabelBatch
