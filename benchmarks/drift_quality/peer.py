"""Other tools on columns of numbers, each in an environment of its own: `python peer.py KIND COLUMNS.npz`.

Nothing of ours is imported here, since nothing of ours is installed there. Prints one line of JSON: the
tool's version, and for each window of 1,000 rows which columns it says have drifted, by their places.
"""

# mypy: ignore-errors
# None of these tools is installed where types are checked.

import json
import sys
import warnings
from importlib.metadata import version

import numpy as np

WINDOW = 1_000
"""Rows that are judged at a time."""


def evidently(reference, windows):
    """Its preset for data drift, a report a window; columns by the tests that it chooses."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    report, expected = Report([DataDriftPreset()]), framed(reference)
    return [drifted(report.run(framed(window), expected).dict()["metrics"]) for window in windows]


def drifted(metrics):
    """The columns of a report beyond their thresholds; a p-value is beyond it when it is less."""
    found = []
    for metric in metrics:
        config, value = metric["config"], metric["value"]
        if "column" in config:
            less = "p_value" in config["method"]
            if (value < config["threshold"]) == less:
                found.append(int(config["column"].removeprefix("x")))
    return found


def alibi_detect(reference, windows):
    """TabularDrift, at p < .05 a column. It knows no missing values: they become the reference's mean."""
    from alibi_detect.cd import TabularDrift

    mean = np.nanmean(reference, axis=1, keepdims=True)

    def matrix(columns):
        return np.where(np.isnan(columns), mean, columns).T

    detector = TabularDrift(matrix(reference), p_val=0.05)
    answers = [detector.predict(matrix(window), drift_type="feature")["data"] for window in windows]
    return [np.flatnonzero(answer["is_drift"]).tolist() for answer in answers]


def nannyml(reference, windows):
    """Its univariate drift with its default method and thresholds."""
    import nannyml

    names = list(framed(reference))
    calculator = nannyml.UnivariateDriftCalculator(column_names=names, chunk_size=WINDOW)
    calculator.fit(framed(reference))
    told = calculator.calculate(framed(np.concatenate(windows, axis=1))).filter(period="analysis").to_df()
    alerts = np.stack([told[name]["jensen_shannon"]["alert"].to_numpy(dtype=bool) for name in names])
    return [np.flatnonzero(alert).tolist() for alert in alerts.T]


def framed(columns):
    """Columns of shape (columns, rows) as pandas has them."""
    import pandas as pd

    return pd.DataFrame({f"x{place}": column for place, column in enumerate(columns)})


KINDS = {"evidently": evidently, "alibi-detect": alibi_detect, "nannyml": nannyml}


def main(kind, path):
    """Judge each stream of the file against its reference."""
    warnings.simplefilter("ignore")
    with np.load(path) as file:
        cases = {name: (file[f"reference.{name}"], file[f"stream.{name}"]) for name in file["names"]}
    found = {}
    for name, (reference, stream) in cases.items():
        windows = [stream[:, at : at + WINDOW] for at in range(0, stream.shape[1], WINDOW)]
        found[str(name)] = KINDS[kind](reference, windows)
    print(json.dumps({"version": version(kind), "drifted": found}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
