"""Why goals are missed, and where the time goes. What is met is not excused."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shortfall:
    """A text, and the rows (by how they begin) that it explains."""

    rows: tuple[str, ...]
    text: str

    def explains(self, what: str) -> bool:
        """Whether it is about that row."""
        return what.startswith(self.rows)


SHORTFALLS = (
    Shortfall(
        ("single events: ours", "columnar messages of 500", "columnar: ours"),
        """\
**Drift**, by a profile of a worker that works off a backlog: of a columnar row's time half goes into stage
two (river's ADWIN 25 %, which looks at each channel once in 32 rows; telling windows 14 %, pairs of features
6 %), a tenth into taking its message apart, 17 % into bins, micro-batches and their summary;
fetching, Faust, publishing and the memories share the rest. What is left to gain is ADWIN's: looking only
every second time would halve its cost, and find changes some 16 rows later; that was not tried. Of a single
event's time 16 % are JSON, which the bare loop has as well, 19 % make columns of it, 10 % are aiokafka's
fetching, 7 % make records chunks, stage two takes 19 %.""",
    ),
    Shortfall(
        ("`publish` of records against", "`publish` of records, columnar, against", "`publish_batch`"),
        """\
**Publishing single records**: bare produce sends bytes that somebody else has encoded, and asks for no
report. Encoding a record, and a report for each message so that nothing undelivered goes unnoticed, make up
the difference when each travels alone. Travelling as columns costs the publisher more still (a third in the
caller's own thread, for the queue and for refusing at once what is too large; telling kinds of rows apart
and turning them into columns as much again), and saves each agent that reads it 7 us and more.""",
    ),
    Shortfall(
        ("label join",),
        """\
**Label join**: a loop over dictionaries in Python; decoding, encoding and dumps of the state are counted.
Dumps of a large state are a sixth of it.""",
    ),
    Shortfall(
        ("200 features / 20",),
        """\
**200 features**: messages of 500 rows are ten times as large, and a chunk ends with the one that passes 1 MB,
so it brings a tenth of the rows; what a chunk costs by itself (two answers of the broker's, a step of the
memory) is shared by fewer. Of pairs of columns 276 are watched at most, but their sums are taken of all.""",
    ),
    Shortfall(
        ("2 workers / 1",),
        """\
**Two workers**: stage two has all windows of a model in one partition, and models go to partitions by their
hash; the worker with more of them is the busier one. With hundreds of models, or one whose stage two is small
beside the decoding of its rows, halves are even.""",
    ),
    Shortfall(
        ("replica / raw",),
        """\
**A replica** checks each value and puts it into its column, makes the row that goes to Kafka, and counts: 20,
15 and 5 us of CPU a request. The app that it is held against trusts its client and keeps nothing.""",
    ),
    Shortfall(
        ("from the row that made it sure",),
        """\
**Lateness of an alarm**: waits add up, and hardly any costs CPU. The publisher gathers for 5 ms; each of the
two stages fetches, writes its memory and publishes, and hears the broker's answer to each; the page holds
decisions for 0.3 s, so that they come in order, and tells browsers four times a second. Where the cores are
busy with other work, each of some twenty changes of thread waits for one.""",
    ),
)


def explain(missed: Sequence[str]) -> str:
    """The end of the page: what explains the `missed` rows, and which of them nothing explains.

    >>> print(explain(["label join, by far", "flying"]).strip())  # doctest: +ELLIPSIS
    ## What is missing, and where it goes
    <BLANKLINE>
    - **Label join**: a loop over dictionaries in Python; ...
    - Not explained yet: flying.
    """
    texts = [shortfall.text for shortfall in SHORTFALLS if any(map(shortfall.explains, missed))]
    left = [what for what in missed if not any(shortfall.explains(what) for shortfall in SHORTFALLS)]
    texts += [f"Not explained yet: {'; '.join(left)}."] if left else []
    if not texts:
        return ""
    items = ["- " + text.replace("\n", "\n  ") for text in texts]
    return "\n## What is missing, and where it goes\n\n" + "\n".join(items) + "\n"
