"""How many false alarms a person will bear, in plain words: `1 in 30 days at 100,000 rows a day`."""

import re
from math import inf
from typing import Self

from pydantic import BaseModel, ConfigDict

POSSIBLE = (
    "say `1 in 30 days at 100,000 rows a day`, `two a month at 50 rows a second`, `3 per week at 2M "
    "rows/day` or `1 in 5M rows`"
)
_ONE_ON = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS = {"a": 1, "an": 1, "once": 1, "twice": 2, **{word: n for n, word in enumerate(_ONE_ON, start=1)}}
_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}
_TIMES = {"": 1.0, "k": 1e3, "m": 1e6, "thousand": 1e3, "million": 1e6}
_NUMBER = r"(?P<{0}>\d[\d,_' ]*(?:\.\d+)?|" + "|".join(sorted(_WORDS, key=len, reverse=True)) + ")"
_MANY = _NUMBER + r"\s*(?P<{0}_times>k|m|thousand|million)?"
_UNIT = r"(?P<{0}>" + "|".join(_SECONDS) + r")s?"
_ALARMS = _NUMBER.format("alarms") + r"(?:\s+false)?(?:\s+alarms?)?\s*(?:in|per|every|each|an?|/)\s*"
_BY_TIME = re.compile(
    _ALARMS
    + rf"(?:{_NUMBER.format('spans')}\s*)?{_UNIT.format('span')}\s*,?\s*(?:at|with|of|for)\s+"
    + rf"{_MANY.format('rows')}\s*rows?\s*(?:an?|per|each|every|/)\s*{_UNIT.format('pace')}"
)
_BY_ROWS = re.compile(_ALARMS + rf"{_MANY.format('rows')}\s*rows?")


class Budget(BaseModel):
    """False alarms of one model, by rows: twice the traffic has twice as many of them in a day.

    >>> Budget.parse("1 in 30 days at 100,000 rows a day").rows_per_alarm
    3000000.0
    >>> Budget.parse("two false alarms a week at 1 row a second").rows_per_alarm
    302400.0
    """

    model_config = ConfigDict(frozen=True)

    text: str
    """As it was said."""
    rows_per_alarm: float
    """Rows of the model, all columns counted once, in which one false alarm is borne."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The budget that `text` tells.

        Raises:
            ValueError: it tells none; what was possible.
        """
        said = " ".join(text.lower().split())
        found = _BY_TIME.fullmatch(said) or _BY_ROWS.fullmatch(said)
        rows = _rows(found.groupdict()) if found else 0.0
        if not 0 < rows < inf:
            raise ValueError(f"{text!r} is no budget of false alarms; {POSSIBLE}")
        return cls(text=text, rows_per_alarm=rows)


def _rows(said: dict[str, str | None]) -> float:
    """Rows between two alarms; 0 if that is nonsense."""
    alarms = _number(said["alarms"])
    rows = _number(said["rows"]) * _TIMES[said["rows_times"] or ""]
    if "span" in said:
        span = _number(said["spans"] or "1") * _SECONDS[said["span"] or "day"]
        rows *= span / _SECONDS[said["pace"] or "day"]
    return rows / alarms if alarms > 0 else 0.0


def _number(text: str | None) -> float:
    text = (text or "").strip()
    return float(_WORDS[text]) if text in _WORDS else float(re.sub(r"[,_' ]", "", text))
