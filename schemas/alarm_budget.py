"""The accepted rate of false alarms: `1 in 30 days at 100,000 rows a day`."""

import re
from math import inf
from typing import Self

from pydantic import BaseModel, ConfigDict

EXAMPLES = (
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
    """As written in the settings."""
    rows_per_alarm: float
    """Rows of the model for each false alarm; a row counts once, however many columns it has."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a budget from words.

        Raises:
            ValueError: `text` is not a budget; the message has examples.
        """
        words = " ".join(text.lower().split())
        match = _BY_TIME.fullmatch(words) or _BY_ROWS.fullmatch(words)
        rows = _rows(match.groupdict()) if match else 0.0
        if not 0 < rows < inf:
            raise ValueError(f"{text!r} is no budget of false alarms; {EXAMPLES}")
        return cls(text=text, rows_per_alarm=rows)


def _rows(words: dict[str, str | None]) -> float:
    """Rows between two alarms; 0 if that is nonsense."""
    alarms = _number(words["alarms"])
    rows = _number(words["rows"]) * _TIMES[words["rows_times"] or ""]
    if "span" in words:
        span = _number(words["spans"] or "1") * _SECONDS[words["span"] or "day"]
        rows *= span / _SECONDS[words["pace"] or "day"]
    return rows / alarms if alarms > 0 else 0.0


def _number(text: str | None) -> float:
    text = (text or "").strip()
    return float(_WORDS[text]) if text in _WORDS else float(re.sub(r"[,_' ]", "", text))
