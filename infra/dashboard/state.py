"""The board: every model's picture, dead letters by reason, and the chain behind any event.

Pure: events and records go in, JSON-ready news come out. Each applied event moves `sequence` by one; a
browser that knows sequence n asks for what came after n, and 0 asks for everything that is kept. So a
slow or returning browser misses nothing that the page itself still has, and needs no queue of its own.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence

from infra.dashboard.lines import Line, line
from infra.dashboard.model_board import ModelBoard
from infra.dashboard.rings import remember
from infra.dashboard.story import LOG
from schemas.dead_letters import DeadLetter
from schemas.events import EVERY_MODEL, AnyEvent
from schemas.settings import DriftSettings

LETTERS = 50


class Board:
    """Applies events however their topics come; the same event again changes nothing.

    Two boards that were given the same topics show the same, if each topic was read in its own order.
    """

    def __init__(self, drift: DriftSettings | None = None) -> None:
        self.sequence = 0
        self.models: dict[str, ModelBoard] = {}
        self.letters: Counter[str] = Counter()
        """Dead letters by reason; what the page itself could not read counts as `unreadable here`."""
        self._drift = drift or DriftSettings()
        self._for_all: deque[tuple[AnyEvent, int]] = deque(maxlen=LOG)
        self._lines: dict[str, Line] = {}
        self._letter_ids: dict[str, None] = {}
        self._letters: list[Mapping[str, object]] = []
        self._letters_at = 0

    def apply(self, event: AnyEvent, written: int) -> None:
        """Take in one event; `written` (ms) is the broker's timestamp, which orders decisions."""
        if event.id in self._lines:
            return
        remember(self._lines, event.id, line(event))
        self.sequence += 1
        if event.model == EVERY_MODEL:
            self._for_all.append((event, written))
            concerned = [*self.models.values()]
        else:
            concerned = [self._of(event.model)]
        for board in concerned:
            board.apply(event, self.sequence, written)

    def park(self, letter: DeadLetter) -> None:
        """Take in one dead letter."""
        if letter.id in self._letter_ids:
            return
        remember(self._letter_ids, letter.id, None)
        where = f"{letter.topic}/{letter.partition} {letter.offset}"
        shown = {"at": letter.at, "reason": letter.reason, "detail": letter.detail, "where": where}
        self._letter(letter.reason, shown)

    def unreadable(self, topic: str, reason: str, detail: str, at: int | None = None) -> None:
        """Count a message of an event topic that the page could not decode, written at `at` (ms)."""
        self._letter("unreadable here", {"at": at, "reason": reason, "detail": detail, "where": topic})

    def news(self, since: int = 0) -> Mapping[str, object]:
        """What came after sequence number `since`; everything that is kept, for 0."""
        touched = {name: board for name, board in self.models.items() if board.touched > since}
        models = {name: board.news(since, self.sequence) for name, board in touched.items()}
        told: dict[str, object] = {
            "sequence": self.sequence,
            "models": {name: news for name, news in models.items() if news["parts"] or news["added"]},
        }
        if self._letters_at > since or since == 0:
            total = dict(sorted(self.letters.items(), key=lambda one: (-one[1], one[0])))
            told["letters"] = {"reasons": total, "newest": self._letters}
        if since == 0:
            thresholds = {"open": self._drift.open_severity, "close": self._drift.close_severity}
            told["thresholds"] = thresholds
        return told

    def chain(self, event_id: str) -> Sequence[Line]:
        """The event and what led to it, newest first; empty if it is not known (any more)."""
        found: list[Line] = []
        known = self._lines.get(event_id)
        while known is not None and known not in found:
            found.append(known)
            known = self._lines.get(known.caused_by or "")
        return found

    def _of(self, model: str) -> ModelBoard:
        """The model's board; a new one is told what was said of every model before."""
        board = self.models.get(model)
        if board is None:
            board = self.models[model] = ModelBoard()
            for event, written in self._for_all:
                board.apply(event, self.sequence, written)
        return board

    def _letter(self, reason: str, shown: Mapping[str, object]) -> None:
        self.sequence += 1
        self._letters_at = self.sequence
        self.letters[reason] += 1
        self._letters = sorted([*self._letters, shown], key=_when, reverse=True)[:LETTERS]


def _when(shown: Mapping[str, object]) -> tuple[int, str]:
    """By the time of parking, whichever partition is read first."""
    return int(str(shown["at"] or 0)), str(shown["where"])
