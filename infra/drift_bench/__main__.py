"""`python -m infra.drift_bench [PAGE] [--quick] [--seed N]`: print the page, and write it."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from infra.drift_bench import real, suite
from infra.drift_bench.page import page


def main() -> None:
    """Ten minutes on two cores, two with `--quick`."""
    asked = argparse.ArgumentParser(description="How good drift detection is, on streams with known changes.")
    asked.add_argument("page", nargs="?", type=Path, help="where the page is written, beside being printed")
    asked.add_argument("--quick", action="store_true", help="shorter streams, fewer seeds")
    asked.add_argument("--seed", type=int, help="repeats a run; default: another one each time")
    given = asked.parse_args()
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if given.seed is None else given.seed
    tasks = suite.planned(seed, given.quick)
    _say(f"seed {seed}, {len(tasks)} tasks")
    found = suite.measured(tasks, os.cpu_count() or 1, lambda done: _told(done, len(tasks)))
    ordered = {name: real.in_order(real.tables()[name]()) for name in real.ordered()}
    text = page(found, ordered, seed, given.quick)
    print(text)  # noqa: T201
    if given.page is not None:
        given.page.write_text(text)


def _told(done: int, of: int) -> None:
    if done % 10 == 0 or done == of:
        _say(f"{done} of {of}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
