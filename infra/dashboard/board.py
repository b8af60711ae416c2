"""The board: every model's picture, dead letters by reason, and the chain behind any event.

Pure: events and records go in, JSON-ready news come out. Each applied event moves `sequence` by one; a
browser that knows sequence n asks for what came after n, and 0 asks for everything that is kept. So a
slow or returning browser misses nothing that the page itself still has, and needs no queue of its own.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from driftloop.infra.dashboard.event_lines import Line, line
from driftloop.infra.dashboard.model_board import ModelBoard
from driftloop.infra.dashboard.ring_buffer import bound, remember
from driftloop.infra.dashboard.timeline import LOG
from driftloop.schemas.dead_letters import DeadLetter
from driftloop.schemas.events import EVERY_MODEL, AgreementMeasured, Event, TrafficMeasured
from driftloop.schemas.settings import DriftSettings, RolloutSettings

LETTERS = 50
COUNTS = 5_000
"""Counts of requests and of scores that are remembered by id."""
MODELS = 100
"""Models that are kept at once: with 720 windows of 20 columns each has about 2 MB. Others are counted."""
SILENT_MS = 3_600_000
"""So long (by the broker's timestamps) must a model have been silent to make room for another."""


class Board:
    """Applies events however their topics come; the same event again changes nothing.

    Two boards that were given the same topics show the same, if each topic was read in its own order.
    """

    def __init__(self, drift: DriftSettings | None = None, rollout: RolloutSettings | None = None) -> None:
        self.sequence = 0
        self.models: dict[str, ModelBoard] = {}
        self.letters: Counter[str] = Counter()
        """Dead letters by reason; what the page itself could not read counts as `unreadable here`."""
        self._drift = drift or DriftSettings()
        self._rollout = rollout or RolloutSettings()
        self._for_all: deque[tuple[Event, int]] = deque(maxlen=LOG)
        self._lines: dict[str, Line] = {}
        self._counts: dict[str, None] = {}
        """Ids of counts, which come every second, lead to nothing by themselves and need no line."""
        self._unseen: dict[str, None] = {}
        """Models that spoke and for which there is no room."""
        self._letter_ids: dict[str, None] = {}
        self._letters: list[Mapping[str, object]] = []
        self._letters_at = 0

    def apply(self, event: Event, written: int) -> None:
        """Take in one event; `written` (ms) is the broker's timestamp, which orders decisions."""
        if event.id in self._lines or event.id in self._counts:
            return
        if isinstance(event, TrafficMeasured | AgreementMeasured):
            self._counts[event.id] = None
            bound(self._counts, COUNTS)
        else:
            remember(self._lines, event.id, line(event))
        self.sequence += 1
        if event.model == EVERY_MODEL:
            self._for_all.append((event, written))
            concerned = [*self.models.values()]
        else:
            concerned = [board for board in [self._of(event.model, written)] if board is not None]
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

    def news(self, since: int = 0, only: str | None = None) -> Mapping[str, object]:
        """What came after sequence number `since`; everything that is kept, for 0.

        With `only`, a model's name, the others have no more than their status; the empty name, or that of a
        model which isn't kept, is the first one's. Which one it is is told as `model`.
        """
        shown = None if only is None else self._or_first(only)
        told: dict[str, object] = {
            "sequence": self.sequence,
            "models": dict(self._of_models(since, None if only is None else {shown})),
            "more_models": len(self._unseen),
        }
        if only is not None:
            told["model"] = shown
        if self._letters_at > since or since == 0:
            total = dict(sorted(self.letters.items(), key=lambda one: (-one[1], one[0])))
            told["letters"] = {"reasons": total, "newest": self._letters}
        if since == 0:
            thresholds = {"open": self._drift.open_severity, "close": self._drift.close_severity}
            told["thresholds"] = thresholds
        return told

    def _or_first(self, name: str) -> str | None:
        return name if name in self.models else min(self.models, default=None)

    def _of_models(
        self, since: int, whole: Collection[str | None] | None
    ) -> Iterator[tuple[str, Mapping[str, object]]]:
        """News of models of which there are any; all of it of those that are `whole` (None: of all)."""
        for name, board in self.models.items():
            if board.touched > since:
                look = board.news if whole is None or name in whole else board.glance
                news = look(since, self.sequence)
                if news["parts"] or news["added"]:
                    yield name, news

    def chain(self, event_id: str) -> Sequence[Line]:
        """The event and what led to it, newest first; empty if it is not known (any more)."""
        found: list[Line] = []
        known = self._lines.get(event_id)
        while known is not None and known not in found:
            found.append(known)
            known = self._lines.get(known.caused_by or "")
        return found

    def _of(self, model: str, written: int) -> ModelBoard | None:
        """The model's board, None if there is no room; a new one is told what was said of every model."""
        board = self.models.get(model)
        if board is None and self._has_room(written):
            self._unseen.pop(model, None)
            board = self.models[model] = ModelBoard(self._rollout)
            for event, at in self._for_all:
                board.apply(event, self.sequence, at)
        if board is None:
            remember(self._unseen, model, None)
        return board

    def _has_room(self, written: int) -> bool:
        """Whether a model more can be kept; one that has long been silent makes room."""
        if len(self.models) < MODELS:
            return True
        heard, silent = min((board.heard, name) for name, board in self.models.items())
        if written - heard < SILENT_MS:
            return False
        self.models.pop(silent)
        remember(self._unseen, silent, None)
        return True

    def _letter(self, reason: str, shown: Mapping[str, object]) -> None:
        self.sequence += 1
        self._letters_at = self.sequence
        self.letters[reason] += 1
        self._letters = sorted([*self._letters, shown], key=_when, reverse=True)[:LETTERS]


def _when(shown: Mapping[str, object]) -> tuple[int, str]:
    """By the time of parking, whichever partition is read first."""
    return int(str(shown["at"] or 0)), str(shown["where"])
