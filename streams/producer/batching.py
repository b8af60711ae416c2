"""Single records into columnar batches: pure functions over what arrived within a moment.

Rows of one kind (type, model, version, names of the features) become one batch, in their order; which
partition a row belongs to is decided afterwards, by its id. Each entry carries a token of the caller's, so
that it learns which of its entries a batch stands for. Rows of one id stay in order, whatever their kind.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from driftloop.schemas.records import (
    Batch,
    FeatureBatch,
    FeatureRow,
    Label,
    LabelBatch,
    Prediction,
    PredictionBatch,
)

Token = TypeVar("Token")
Single = Prediction | FeatureRow | Label
Groups = dict[Hashable, tuple[list[Any], list[Token]]]


def gathered(
    entries: Iterable[tuple[Single | Batch, Token]], rows: int
) -> Iterator[tuple[Single | Batch, Sequence[Token]]]:
    """The entries with rows of one kind put together, at most `rows` of them; a lone one stays as it is."""
    groups: Groups[Token] = {}
    kind_of_id: dict[Hashable, Hashable] = {}
    for record, token in entries:
        kind = kind_of(record)
        if kind is None or kind_of_id.setdefault((type(record), record.id), kind) != kind:  # type: ignore[union-attr]  # not a batch
            yield from _closed(groups)
            groups, kind_of_id = {}, {}
        if kind is None:
            yield record, [token]
            continue
        records, tokens = groups.setdefault(kind, ([], []))
        records.append(record)
        tokens.append(token)
        if len(records) >= rows:
            yield from _closed({kind: groups.pop(kind)})
    yield from _closed(groups)


def kind_of(record: Any) -> Hashable:
    """What two records must share to be rows of one batch; None for what is a batch already."""
    which = type(record)  # cheaper than isinstance, by far, where pydantic made the class
    if which is Prediction:
        return which, record.model, record.version, tuple(record.features)
    if which is FeatureRow:
        return which, record.model, tuple(record.features)
    return (which, record.model) if which is Label else None


def _closed(groups: Groups[Token]) -> Iterator[tuple[Single | Batch, Sequence[Token]]]:
    for records, tokens in groups.values():
        yield (records[0] if len(records) == 1 else _batch(records)), tokens


def _batch(records: Sequence[Any]) -> Batch:
    """The rows as columns; their values were checked when the records were made."""
    first = records[0]
    shared: dict[str, Any] = {
        "model": first.model,
        "ids": [one.id for one in records],
        "at": [one.at for one in records],
    }
    match first:
        case Label():
            return LabelBatch.model_construct(**shared, labels=[one.label for one in records])
        case FeatureRow():
            return FeatureBatch.model_construct(
                **shared, entities=_entities(records), features=_features(records)
            )
        case _:
            return PredictionBatch.model_construct(
                **shared,
                version=first.version,
                entities=_entities(records),
                scores=[one.score for one in records],
                features=_features(records),
            )


def _entities(records: Sequence[Any]) -> list[str | None] | None:
    entities = [one.entity for one in records]
    return entities if any(one is not None for one in entities) else None


def _features(records: Sequence[Any]) -> dict[str, list[Any]]:
    names = list(records[0].features)
    columns = zip(*(one.features.values() for one in records), strict=True)
    return dict(zip(names, map(list, columns), strict=True))
