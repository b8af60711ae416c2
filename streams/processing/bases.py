"""When an agent's whole state is written again, and not just the next step.

After a crash everything since the last base is read and handled again. So about as many bytes may pass
between two bases as one has: recovery then reads about twice the state, and writing states doubles at most
what is written anyway.
"""

LEAST_BYTES = 4_000_000
"""Read and handled again in 0.2 s, so a smaller state is not written more often."""
MOST_BYTES = 64_000_000
"""Handled again in about 3 s at 45 ns a byte; a larger state is written no more seldom. A byte of the label
join's state is dumped in 9 ns, so dumps are a sixth of its work at most."""
MANY_STEPS = 1000
"""Steps after a base at most, however few bytes they are: each is a call of the handler, some 0.5 ms."""


def due(state: int, passed: int) -> bool:
    """Whether it is time, with so many bytes of state in the last base, and so many that passed since.

    >>> due(state=300, passed=200_000), due(state=9_000_000, passed=5_000_000), due(80_000_000, 64_000_000)
    (False, False, True)
    """
    return passed >= min(max(state, LEAST_BYTES), MOST_BYTES)
