"""The demo's result: whether the loop closed, and the live system against the unchanged January model."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop.demo.client import Replay
from driftloop.mlops_core.ports import Task
from driftloop.mlops_core.training import evaluation
from driftloop.schemas import topics
from driftloop.schemas.settings import KafkaSettings
from driftloop.schemas.summaries import Outcomes
from driftloop.streams.topic_reader import TopicReader


@dataclass(frozen=True)
class Facts:
    """Counts of what the loop did."""

    drifts: int
    requests: int
    refusals: int
    trained: int
    refused_by_gate: int
    failed: int
    promoted: int
    rolled_back: int
    closed_after: float | None
    """Seconds from the first drift to the first promotion of a retrained version."""
    sabotaged: str | None = None
    """The version that the demo sabotaged."""


@dataclass(frozen=True)
class Summary:
    """The table at the end, and the exit code."""

    facts: Facts
    live: Mapping[str, float]
    static: Mapping[str, float]
    predictions: int
    failed: int
    lost: int
    rate: float
    seconds: float
    sabotaged: bool
    left_out: int = 0
    """Answers of the sabotaged version, which are the demo's own doing and in neither column."""

    @property
    def missing(self) -> list[str]:
        """Expected results that are missing, as sentences."""
        wanted = {
            "no retrained version was promoted": self.facts.promoted > 0,
            "the sabotaged version was not rolled back": not self.sabotaged or self.facts.rolled_back > 0,
            # By what the gate and the canary judge; AUC over a year mixes the scores of several versions.
            "the live system is no better than the January model": self.live["brier"] < self.static["brier"],
            f"{self.lost} labelled predictions were lost": self.lost == 0,
            f"{self.failed} predictions got no answer": self.failed == 0,
        }
        return [what for what, happened in wanted.items() if not happened]

    @property
    def exit_code(self) -> int:
        """0 where no result is missing, else 1."""
        return 1 if self.missing else 0

    def lines(self) -> Iterator[str]:
        """Lines of the table."""
        facts = self.facts
        yield ""
        yield "                          live system    January model, never changed"
        yield f"AUC                       {self.live['auc']:11.4f}    {self.static['auc']:.4f}"
        yield f"log loss                  {self.live['log_loss']:11.4f}    {self.static['log_loss']:.4f}"
        yield f"Brier score               {self.live['brier']:11.4f}    {self.static['brier']:.4f}"
        yield ""
        if self.left_out:
            yield f"without {self.left_out:,} answers of the sabotaged version {facts.sabotaged}"
            yield ""
        yield f"drift episodes            {facts.drifts:11,}"
        yield f"retrainings               {facts.requests:11,}    ({facts.refusals:,} refused by the policy)"
        yield f"challengers registered    {facts.trained:11,}    ({facts.refused_by_gate:,} refused)"
        yield f"promoted                  {facts.promoted:11,}"
        yield f"rolled back               {facts.rolled_back:11,}"
        yield f"predictions               {self.predictions:11,}    {self.rate:,.0f} a second"
        yield f"events lost               {self.lost:11,}"
        if facts.closed_after is not None:
            yield f"drift to promotion        {facts.closed_after:9.1f} s"
        yield f"in all                    {self.seconds:9.1f} s"
        yield ""
        yield "The loop closed." if not self.missing else "The loop did not close: " + "; ".join(self.missing)
        yield ""


def of(
    replay: Replay,
    static: NDArray[np.float64],
    facts: Facts,
    joined: set[str],
    timing: tuple[float, float],
    sabotaged: bool,
) -> Summary:
    """Count and compare. `timing`: seconds of the replay, and of everything."""
    answered = ~np.isnan(replay.scores)
    judged = answered & ~np.isnan(replay.flights.late)
    expected = set(replay.flights.ids[judged])
    bad = judged & (replay.versions == (facts.sabotaged or ""))
    judged &= ~bad
    labels = replay.flights.late[judged]
    replayed, seconds = timing
    return Summary(
        facts=facts,
        live=evaluation.metrics(Task.BINARY, labels, replay.scores[judged]),
        static=evaluation.metrics(Task.BINARY, labels, static[judged]),
        predictions=int(answered.sum()),
        failed=replay.failed,
        lost=len(expected - joined),
        rate=replay.asked / replayed,
        seconds=seconds,
        sabotaged=sabotaged,
        left_out=int(bad.sum()),
    )


def joined_ids(kafka: KafkaSettings, wanted: set[str], seconds: float) -> set[str]:
    """Ids of `wanted` that the loop has joined with their labels, waiting at most `seconds` for them."""
    found: set[str] = set()
    deadline = time.monotonic() + seconds
    with TopicReader(kafka, [topics.OUTCOMES]) as reader:
        while not wanted <= found and time.monotonic() < deadline:
            for _, message in reader.poll(0.2):
                found.update(Outcomes.model_validate_json(message.value() or b"").ids)
    return found
