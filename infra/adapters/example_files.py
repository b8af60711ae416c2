"""A user's own labelled data, from a Parquet or CSV file."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from driftloop.mlops_core.data.examples import Examples, backfill
from driftloop.mlops_core.errors import InvalidData
from driftloop.schemas.configs import DataConfig


def read_examples(data: DataConfig) -> tuple[str, Examples]:
    """The file's rows, and a segment name that follows from its bytes: the same file is stored once.

    Raises:
        InvalidData: no such file, another format, or a column that isn't there; says what is.
    """
    assert data.path is not None
    table = _table(data.path)
    missing = [name for name in (data.label, data.time) if name not in table.column_names]
    if missing:
        raise InvalidData(f"{data.path} has no column {missing[0]!r}; it has {', '.join(table.column_names)}")
    names = [n for n in table.column_names if n not in {data.label, data.time, *data.ignore}]
    digest = hashlib.sha256(data.path.read_bytes()).hexdigest()[:16]
    rows = table.num_rows
    return f"file-{digest}", backfill(
        ids=[f"{digest}-{row}" for row in range(rows)],
        at=_times(table[data.time]),
        labels=table[data.label].cast("float64").to_numpy(zero_copy_only=False),
        features={name: table[name].to_pylist() for name in names},
    )


def _table(path: Path) -> Any:
    from pyarrow import csv, parquet

    if not path.is_file():
        raise InvalidData(f"no file at {path}")
    match path.suffix:
        case ".parquet":
            return parquet.read_table(path)
        case ".csv":
            return csv.read_csv(path)
        case other:
            raise InvalidData(
                f"{path}: a .parquet or .csv file was expected, not {other or 'one without ending'}"
            )


def _times(column: Any) -> Any:
    from pyarrow import timestamp, types

    if types.is_timestamp(column.type):
        column = column.cast(timestamp("ms")).cast("int64")
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
