"""`python -m infra.bench`: print the tables; with a path, write them there as a page, too."""

import sys
from pathlib import Path

from infra.bench import agents, kafka, publishing, start
from infra.bench.table import markdown

SECTIONS = (
    ("Drift through Apache Kafka and Faust", kafka.measure),
    ("Publisher", publishing.measure),
    ("What a row costs each agent", agents.measure),
    ("Start", start.measure),
)


def main() -> None:
    """Measure everything, a few minutes."""
    measured = []
    for title, measure in SECTIONS:
        print(f"measuring: {title} ...", file=sys.stderr, flush=True)  # noqa: T201
        measured.append((title, measure()))
    page = markdown(measured)
    print(page)  # noqa: T201
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page)


if __name__ == "__main__":
    main()
