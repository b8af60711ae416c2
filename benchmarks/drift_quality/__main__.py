"""`python -m benchmarks.drift_quality [PAGE] [--quick] [--seed N]`: print the page, and write it.

With `--budget STREAMS [--tallies FILE]`: measure what a budget of false alarms costs instead (see `budget`).
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from benchmarks.drift_quality import budget, estimates, real, suite, windowed
from benchmarks.drift_quality.page import Results, page


def main() -> None:
    """Ten minutes on two cores, two with `--quick`."""
    asked = argparse.ArgumentParser(description="How good drift detection is, on streams with known changes.")
    asked.add_argument("page", nargs="?", type=Path, help="where the page is written, beside being printed")
    asked.add_argument("--quick", action="store_true", help="shorter streams, fewer seeds")
    asked.add_argument("--seed", type=int, help="repeats a run; default: another one each time")
    asked.add_argument("--budget", type=int, metavar="STREAMS", help="false episodes by delta, instead")
    asked.add_argument("--tallies", type=Path, help="with --budget: where counts are kept, and added to")
    asked.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one a core")
    given = asked.parse_args()
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if given.seed is None else given.seed
    if given.budget is not None:
        _budgeted(seed, given.budget, given.processes, given.tallies)
        return
    tasks = suite.planned(seed, given.quick)
    _say(f"seed {seed}, {len(tasks)} tasks")
    found = suite.measured(tasks, given.processes, lambda done: _print_progress(done, len(tasks)))
    ordered = {name: real.in_order(real.tables()[name]()) for name in real.ordered()}
    estimated = estimates.measured(seed, 10 if given.quick else 30)
    beside = None if given.quick else windowed.measured(seed)
    text = page(Results(found, estimated, beside, ordered), seed, given.quick)
    print(text)  # noqa: T201
    if given.page is not None:
        given.page.write_text(text)


def _budgeted(seed: int, streams: int, processes: int, kept: Path | None) -> None:
    _say(f"seed {seed}, {streams} streams")
    tallies: list[budget.Tally] = []
    for tally in budget.measured(seed, streams, processes=processes, kept=kept):
        tallies.append(tally)
        _say(f"seed {tally.seed}, stream {tally.stream}")
    print(budget.report(tallies))  # noqa: T201


def _print_progress(done: int, of: int) -> None:
    if done % 10 == 0 or done == of:
        _say(f"{done} of {of}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
