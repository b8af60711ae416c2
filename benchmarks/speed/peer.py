"""Other tools over the same rows, each in an environment of its own: `python peer.py KIND ROWS.npz COUNT`.

Nothing of ours is imported here, since nothing of ours is installed there. Prints one line of JSON: the
tool's version and its CPU microseconds a row, children included, without taking in the reference.
"""

# mypy: ignore-errors
# None of these tools is installed where types are checked.

import json
import resource
import sys
import warnings
from importlib.metadata import version

import numpy as np

WINDOW = 1_000
"""Rows that are compared with the reference at a time."""


def evidently(reference, windows):
    """Its preset for data drift, a report a window."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    report, expected = Report([DataDriftPreset()]), pd.DataFrame(reference)

    def judge(window):
        return report.run(pd.DataFrame(window), expected).dict()

    return "evidently", lambda: [judge(window) for window in windows]


def alibi_detect(reference, windows):
    """TabularDrift, a prediction a window; it knows no missing values and no text."""
    from alibi_detect.cd import TabularDrift

    categorical = [place for place, name in enumerate(reference) if name.startswith("c")]
    codes = {
        name: {value: code for code, value in enumerate(np.unique(reference[name]))} for name in reference
    }

    def matrix(columns):
        filled = []
        for name, values in columns.items():
            if name.startswith("c"):
                filled.append(np.array([codes[name][value] for value in values], dtype=float))
            else:
                filled.append(np.where(np.isnan(values), 0.0, values))
        return np.stack(filled, axis=1)

    detector = TabularDrift(matrix(reference), p_val=0.05, categories_per_feature=dict.fromkeys(categorical))
    ready = [matrix(window) for window in windows]  # its numbers, not ours: not counted
    return "alibi-detect", lambda: [detector.predict(window) for window in ready]


def nannyml(reference, windows):
    """Its univariate drift with its default method, all chunks in one call."""
    import nannyml
    import pandas as pd

    calculator = nannyml.UnivariateDriftCalculator(column_names=list(reference), chunk_size=WINDOW)
    calculator.fit(pd.DataFrame(reference))
    rows = pd.concat([pd.DataFrame(window) for window in windows], ignore_index=True)
    return "nannyml", lambda: calculator.calculate(rows).to_df()


KINDS = {"evidently": evidently, "alibi-detect": alibi_detect, "nannyml": nannyml}


def cpu_seconds():
    """User and system time of this process and of those that it has waited for."""
    usages = [resource.getrusage(target) for target in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main(kind, path, count):
    """Measure one tool on the first `count` rows, after one window to warm up."""
    warnings.simplefilter("ignore")
    with np.load(path) as file:
        reference = {name.removeprefix("reference."): file[name] for name in file if name.startswith("ref")}
        current = {name.removeprefix("current."): file[name] for name in file if name.startswith("cur")}
    starts = range(0, count, WINDOW)
    windows = [{name: values[at : at + WINDOW] for name, values in current.items()} for at in starts]
    KINDS[kind](reference, windows[:1])[1]()
    name, work = KINDS[kind](reference, windows)
    began = cpu_seconds()
    work()
    took = cpu_seconds() - began
    print(json.dumps({"version": version(name), "microseconds": took / count * 1e6}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
