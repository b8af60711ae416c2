"""One category of a column as a stream of its own: what training data looked like within it."""

from pydantic import BaseModel, ConfigDict


class SegmentColumn(BaseModel):
    """One column of a profile within a segment; bins are those of the whole."""

    model_config = ConfigDict(frozen=True)

    counts: tuple[int, ...]
    """Rows of the segment in each bin; all 0 where there were none."""
    stretches: tuple[tuple[int, ...], ...] = ()
    """As those of a `ColumnProfile`."""


class Segment(BaseModel):
    """The rows whose `column` has the value `value`."""

    model_config = ConfigDict(frozen=True)

    column: str
    value: str
    place: int
    """The column's place in the profile."""
    bin: int
    """The value's bin in it."""
    rows: int
    columns: tuple[SegmentColumn, ...]
    """A column each of the profile's."""

    @property
    def name(self) -> str:
        r"""What it is called in events, as `country=FR`; no other segment is called the same.

        An equals sign in the column has a backslash before it, as has a backslash: so the first bare one ends
        the column, whatever the value.

        >>> one = Segment(column="country", value="FR", place=0, bin=0, rows=1, columns=())
        >>> one.name, one.model_copy(update={"column": "a=b", "value": "c=d"}).name
        ('country=FR', 'a\\=b=c=d')
        """
        column = self.column.replace("\\", "\\\\").replace("=", "\\=")
        return f"{column}={self.value}"
