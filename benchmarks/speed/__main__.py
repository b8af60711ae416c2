"""`python -m benchmarks.speed [PAGE]`: print the tables; with PAGE, write them there and as JSON."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.speed import (
    agents,
    growth,
    kafka,
    latency,
    load,
    peers,
    publishing,
    serving,
    shortfalls,
    start,
)
from benchmarks.speed.table import Row, environment, figures, markdown, missed_goals

Measure = Callable[[bool], list[Row]]
"""Its argument: whether to take as many rows as the goals name, however long that takes."""

SECTIONS: Mapping[str, Measure] = {
    "Drift through Apache Kafka and Faust": lambda _: kafka.measure(),
    "From an event to the page": lambda _: latency.measure(),
    "Single requests through the whole loop": lambda _: load.measure(),
    "Growth": growth.measure,
    "Publisher": lambda _: publishing.measure(),
    "What a row costs each agent": lambda _: agents.measure(),
    "Drift inside one process, and what others take": lambda _: peers.measure(),
    "Serving": lambda _: serving.measure(),
    "Start": lambda _: start.measure(),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything, about ten minutes; 1 if something could not be measured."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("page", nargs="?", type=Path, help="Markdown file; the same as .json lies beside it")
    parser.add_argument("--long", action="store_true", help="as many rows as the goals name (half an hour)")
    parser.add_argument("--only", default="", help="sections whose title has this word; writes nothing")
    asked = parser.parse_args(arguments)
    chosen = {title: measure for title, measure in SECTIONS.items() if asked.only.lower() in title.lower()}
    measured = [(title, _section(title, measure, asked.long)) for title, measure in chosen.items()]
    where = environment()
    page = markdown(measured, where)
    if not asked.only:
        page += shortfalls.explain(missed_goals(measured))
    print(page)  # noqa: T201
    if asked.page is not None and not asked.only:
        asked.page.write_text(page)
        asked.page.with_suffix(".json").write_bytes(figures(measured, where))
    return int(any(row.what == BROKEN for _, rows in measured for row in rows))


BROKEN = "could not be measured"


def _section(title: str, measure: Measure, long: bool) -> list[Row]:
    """One section; what goes wrong in it must not cost the minutes of the others."""
    _say(f"measuring: {title} ...")
    began = time.monotonic()
    try:
        rows = measure(long)
    except Exception as error:  # noqa: BLE001 - said on the page and by the exit code
        traceback.print_exc()
        rows = [Row.missing(BROKEN, f"{type(error).__name__}: {error}".partition("\n")[0])]
    _say(f"measured: {title}, {time.monotonic() - began:.0f} s")
    return rows


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
