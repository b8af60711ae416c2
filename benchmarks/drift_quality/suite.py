"""Everything that is measured: each task has a seed of its own, so that they run side by side and repeat."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np

from benchmarks.drift_quality import cases, labels, ours, plain, real, restarts
from benchmarks.drift_quality.cases import Case, Random, named
from benchmarks.drift_quality.measures import Trial

COLUMNS = 20
LABELS = 1_000_000
"""Labels of an error rate that stays: what its goal speaks of."""
AFTER = 10_000
"""Events within which a change must be found, or is missed."""
OURS = "driftloop"
CASES: Mapping[str, Case] = {case.name: case for case in (*cases.STILL, *cases.CHANGES)}

SHUFFLED, MANY, SPOILED = "shuffled real rows", "10 of 200 shift by 0.25 sd", "bad values, then 1 sd"
STEADY, RISING = "concept: error .1", "concept: error .1 -> .2"
SEASONAL, UNADJUSTED = "concept: seasonal error, period told", "concept: seasonal error, period not told"
RESTARTED = "killed and restarted, 1 % twice"


@dataclass(frozen=True)
class Task:
    """One case, one detector, one seed."""

    detector: str
    case: str
    seed: tuple[int, ...]
    rows: int
    """Events without a change."""
    table: str = ""
    """Of the real tables, which."""


def planned(seed: int, quick: bool) -> list[Task]:
    """All tasks of a run; the slow ones first."""
    rows, seeds = (200_000, 3) if quick else (1_000_000, 10)
    wanted = [(OURS, case.name, rows, "") for case in cases.STILL for _ in (1, 2)]
    wanted += [(OURS, STEADY, LABELS, "") for _ in (1, 2)]
    wanted += [(OURS, SHUFFLED, rows // 2, table) for table in real.tables()]
    wanted += [(OURS, case.name, 60_000, "") for case in cases.CHANGES for _ in range(seeds)]
    wanted += [(OURS, name, 20_000, "") for name in (MANY, SPOILED, RISING) for _ in range(seeds)]
    wanted += [(OURS, name, 50_000, "") for name in (SEASONAL, UNADJUSTED)]
    wanted += [(OURS, RESTARTED, 20_000, "") for _ in range(seeds)]
    wanted += [(rival, name, 0, "") for rival in plain.detectors() for name in CASES]
    return [
        Task(detector, case, (seed, n), size, table) for n, (detector, case, size, table) in enumerate(wanted)
    ]


def measured(
    tasks: Sequence[Task], processes: int, progress: Callable[[int], None]
) -> Mapping[tuple[str, str], list[Trial]]:
    """Trials by detector and case; `progress` hears how many tasks are done."""
    found: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    with ProcessPoolExecutor(processes) as pool:
        running = {pool.submit(run, task): task for task in tasks}
        for done, future in enumerate(as_completed(running), 1):
            task = running[future]
            found[task.detector, task.case] += future.result()
            progress(done)
    return found


def run(task: Task) -> list[Trial]:
    """Carry out one task."""
    random = np.random.default_rng(task.seed)
    if task.detector != OURS:
        return plain.trials(plain.detectors()[task.detector], CASES[task.case], random)
    if task.case in CASES:
        case = CASES[task.case]
        stable = task.rows if case.after is None else int(random.integers(task.rows // 2, task.rows))
        return ours.trials(case, random, COLUMNS, stable, AFTER)
    if task.case == SHUFFLED:
        return real.shuffled(real.tables()[task.table](), random, task.rows)
    return list(_SPECIAL[task.case](random, task.rows))


def _many(random: Random, rows: int) -> Iterator[Trial]:
    """200 features, of which the first 10 shift; 1,500 events later it is over."""
    stream = cases.normal()(random, 200, rows + 1_500)
    stream[:10, rows:] += 0.25
    profile = ours.profiled(named(cases.normal()(random, 200, ours.REFERENCE)))
    for place, alarms in enumerate(ours.alarms(profile, named(stream)).values()):
        yield Trial(alarms, stream.shape[1], rows if place < 10 else None)


def _spoiled(random: Random, rows: int) -> Iterator[Trial]:
    """NaN, infinities, 1e308 and text among the numbers, then a shift by a whole deviation."""
    case = Case("", cases.normal(), cases.normal(1.0))
    stream = case.stream(random, COLUMNS, rows, AFTER).astype(object)
    for value in (*cases.BAD, "many"):
        stream[:, random.integers(0, rows, 10)] = value
    profile = ours.profiled(named(case.before(random, COLUMNS, ours.REFERENCE)))
    for alarms in ours.alarms(profile, named(stream)).values():
        yield Trial(alarms, stream.shape[1], rows)


def _restarted(random: Random, rows: int) -> list[Trial]:
    """A trial without an alarm where all is the same, with one where it isn't."""
    ids, same = restarts.same_alarms(random, rows)
    return [Trial([] if same and ids else [1], rows)]


_SPECIAL: Mapping[str, Callable[[Random, int], Sequence[Trial] | Iterator[Trial]]] = {
    MANY: _many,
    SPOILED: _spoiled,
    RESTARTED: _restarted,
    STEADY: labels.steady,
    RISING: lambda random, rows: labels.rising(random, 20, rows, AFTER),
    SEASONAL: lambda random, rows: labels.seasonal(random, rows, season=True),
    UNADJUSTED: lambda random, rows: labels.seasonal(random, rows, season=False),
}
