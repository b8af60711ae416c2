"""`python -m benchmarks.loop_quality [PAGE]`: replay, print the tables, and write the page and its JSON.

Ends with 0 once it ran, whatever the figures; with `--check`, with 1 if a goal is missed.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loop_quality import data, figures, page
from benchmarks.loop_quality.baselines import Baselines
from benchmarks.loop_quality.data import Places, Stream
from benchmarks.loop_quality.facts import Facts
from benchmarks.loop_quality.replay import Groups, Options, Replayed, replay
from driftloop.demo.narrative import Terminal
from driftloop.mlops_core.errors import DriftloopError, InvalidData
from driftloop.schemas.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    given = _parser().parse_args(arguments)
    given.seed = (
        int(np.random.SeedSequence().generate_state(1)[0] % 100_000) if given.seed is None else given.seed
    )
    terminal, found, replays, skipped = (
        Terminal(),
        list[figures.Compared](),
        list[Replayed](),
        dict[str, str](),
    )
    places = Places(given.elec, given.cache, given.download)
    try:
        for name in data.names_of(given.data):
            try:
                stream = data.load(name, given.seed, places).first_rows(given.rows)
            except InvalidData as error:
                skipped[name] = str(error)
                terminal.say(f"{name} is skipped: {error}")
                continue
            compared, own = _stream(stream, given, terminal)
            found.append(compared)
            replays += own
            terminal.say("")
            for line in page.table(compared):
                terminal.say(line)
            _write(given, found, replays, skipped)
    except DriftloopError as error:
        terminal.say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    missed = [sentence for stream in found for sentence, met in page.checks(stream) if not met]
    for sentence in missed:
        terminal.say(f"missed: {sentence}")
    return 1 if given.check and missed else 0


def _stream(
    stream: Stream, given: argparse.Namespace, terminal: Terminal
) -> tuple[figures.Compared, list[Replayed]]:
    """One stream by every strategy, and its baselines."""
    settings = _groups(given.settings)
    training = Settings.load(None, **settings).training
    replays: list[Replayed] = []
    with Baselines(stream, training, given.cache / "loop-bench", given.processes) as baselines:
        for strategy in given.strategy.split(","):
            folder = given.folder / f"{stream.name}-{strategy}"
            options = Options(
                folder=folder,
                strategy=strategy,
                broker=given.broker,
                seed=given.seed,
                request_rows=given.request_rows,
                partitions=given.partitions,
                settings=settings,
            )
            replayed = replay(stream, options, terminal.say, _progress(stream, terminal))
            replays.append(replayed)
            terminal.say(_summary(replayed))
            for sentence in replayed.facts.sentences if given.verbose else ():
                terminal.say(f"  {sentence}")
        terminal.say(f"{stream.name}: waiting for the baselines")
        return figures.compare(stream, replays, baselines.results(replays[0].first)), replays


def _progress(stream: Stream, terminal: Terminal) -> Callable[[int, Facts], None]:
    """Draws the progress: rows, what the loop did, time to go."""
    coming, first = len(stream) - stream.warm, list[tuple[float, float]]()

    def show(asked: int, facts: Facts) -> None:
        done, now = (asked - stream.warm) / coming, time.monotonic()
        if not first:
            first.append((done, now))  # the time before it is that of starting the system
        [(done_then, then)] = first
        left = (now - then) * (1 - done) / max(done - done_then, 1e-9)
        bar = "#" * round(20 * done) + "." * (20 - round(20 * done))
        loop = f"{facts.trainings - 1} trainings, {facts.promotions} promoted, {facts.rollbacks} rolled back"
        rows = f"{asked - stream.warm:,} of {coming:,} rows"
        terminal.progress(f"{stream.name} {bar} {rows}; {loop}; {left:.0f} s to go")

    return show


def _summary(replayed: Replayed) -> str:
    seconds = ", ".join(f"{name} {took:.1f} s" for name, took in replayed.seconds.items())
    blocks, at_rest = replayed.blocks, f" (a rest p50 {np.median(replayed.rests):.2f} s)"
    if replayed.restless:
        at_rest += f"; {replayed.restless} not at rest in time, the last for: {'; '.join(replayed.reasons)}"
    return f"{replayed.stream.name}, {replayed.strategy}: {blocks:,} blocks; {seconds}{at_rest}"


def _write(
    given: argparse.Namespace,
    found: Sequence[figures.Compared],
    replays: Sequence[Replayed],
    skipped: dict[str, str],
) -> None:
    if given.page is None:
        return
    command = f"--data {given.data} --strategy {given.strategy} --seed {given.seed}"
    if given.rows is not None:
        command += f" --rows {given.rows}"
    run = page.Run(command, given.seed, given.broker, _groups(given.settings), given.rows, skipped)
    given.page.write_text(page.page(run, found, replays))
    written = json.dumps(page.document(run, found, replays), indent=1)
    given.page.with_suffix(".json").write_text(written + "\n")


def _groups(settings: Sequence[str]) -> Groups:
    """Settings as `group.key=value`; a value is JSON, or text."""
    found: Groups = {}
    for setting in settings:
        place, _, value = setting.partition("=")
        group, _, key = place.partition(".")
        found.setdefault(group, {})[key] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _parser() -> argparse.ArgumentParser:
    asked = argparse.ArgumentParser(prog="bench-loop", description="What the loop is worth beside cron jobs.")
    add = asked.add_argument
    add("page", nargs="?", type=Path, help="where the page is written, and its JSON beside it")
    add("--data", default="all", help=f"of {', '.join(data.LOADERS)}; default: all")
    add("--strategy", default="champion", help="champion, blend, or both with a comma")
    add("--rows", type=int, help="a short run: so many rows after the first model's of each stream")
    add(
        "--seed",
        type=int,
        help="of generated data and of the canary's choice of rows; default: another each time",
    )
    add(
        "--settings", nargs="*", default=[], metavar="GROUP.KEY=VALUE", help="changes to the default settings"
    )
    add("--broker", default="embedded", help="embedded, kafka or external")
    add("--request-rows", type=int, default=100, help="rows of one request")
    add("--partitions", type=int, default=1, help="of each topic; more cost time")
    add(
        "--elec",
        type=Path,
        help=f"the electricity data's CSV file; default: {data.ELEC_CSV}, shared/data/elec.csv",
    )
    add("--download", action="store_true", help="allow downloading the bike data (23 MB)")
    add(
        "--cache",
        type=Path,
        default=data.CACHE,
        help="downloads, and scores of baselines that were computed before",
    )
    add(
        "--folder",
        type=Path,
        default=Path(".driftloop/loop-bench"),
        help="where the systems' files and logs lie",
    )
    add("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="that compute the baselines")
    add("--check", action="store_true", help="end with 1 if a goal is missed")
    add("--verbose", action="store_true", help="print how each training and rollout ended")
    return asked


if __name__ == "__main__":
    sys.exit(main())
