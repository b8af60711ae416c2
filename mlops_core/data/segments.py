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
        """What it is called in events, as `country=FR`."""
        return f"{self.column}={self.value}"
