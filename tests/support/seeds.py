"""The seed of this run: `--seed N` repeats a run, without it each run draws another one.

Tests take the fixtures `seed` or `rng`. Helpers that build data call `generator()`.
"""

import itertools
import random
from collections.abc import Iterator

import numpy as np


class _Run:
    seed: int = random.SystemRandom().randrange(1_000_000)
    numbers: Iterator[int] = itertools.count(1)


def use(seed: int | None) -> int:
    """Make `seed` the seed of this run; None keeps the one that was drawn. Returns the seed in use."""
    if seed is not None:
        _Run.seed = seed
    return _Run.seed


def restart() -> None:
    """Begin a test: its generators don't depend on the tests before it."""
    _Run.numbers = itertools.count(1)


def generator() -> np.random.Generator:
    """A new generator: of this run's seed, and of how many were asked for in this test."""
    return np.random.default_rng((_Run.seed, next(_Run.numbers)))
