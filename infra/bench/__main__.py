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

SHORTFALLS = """
## What is missing, and where it goes

Profiled in November 2026; figures are microseconds a row.

- **Drift**: of a columnar row, stage one takes 2.5: JSON 0.7, lists to checked arrays 1.1, bins 0.4,
  micro-batches 0.3. Stage two takes 2 to 3: river's ADWIN, channel by channel, some 85 of them. The last 1 is
  fetching, Faust and the memories. A single event costs 7 more to take apart, and 7 to 14 more on its way
  here, as a record of its own. Arrow instead of JSON would save 1 at 1,000 rows a message and costs more
  at 100 ([decision 8](decisions/0008-batches-are-columnar-json.md)).
- **Publishing single records**: bare produce sends bytes that somebody else has encoded, and asks for no
  report. Encoding a record, and a report for each message so that nothing undelivered goes unnoticed, make up
  the difference when each travels alone. Travelling as columns costs the publisher more still, and saves each
  agent that reads it 7 and more.
- **Label join**: three dictionaries in Python a row; decoding, encoding and dumps of the state are counted.
"""


def main() -> None:
    """Measure everything, a few minutes."""
    measured = []
    for title, measure in SECTIONS:
        print(f"measuring: {title} ...", file=sys.stderr, flush=True)  # noqa: T201
        measured.append((title, measure()))
    page = markdown(measured) + SHORTFALLS
    print(page)  # noqa: T201
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page)


if __name__ == "__main__":
    main()
