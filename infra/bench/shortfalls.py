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
**Drift**: of a columnar row, stage one takes 2.5 us: JSON 0.7, lists to checked arrays 1.1, bins 0.4,
micro-batches 0.3. Stage two takes 2 to 3: river's ADWIN, channel by channel, some 85 of them. The last 1 is
fetching, Faust and the memories. A single event costs 7 more to take apart, and 7 to 14 more on its way
here, as a record of its own. Arrow instead of JSON would save 1 at 1,000 rows a message and costs more
at 100 ([decision 8](decisions/0008-batches-are-columnar-json.md)).""",
    ),
    Shortfall(
        ("`publish` of records against", "`publish` of records, columnar, against", "`publish_batch`"),
        """\
**Publishing single records**: bare produce sends bytes that somebody else has encoded, and asks for no
report. Encoding a record, and a report for each message so that nothing undelivered goes unnoticed, make up
the difference when each travels alone. Travelling as columns costs the publisher more still, and saves each
agent that reads it 7 us and more.""",
    ),
    Shortfall(
        ("label join",),
        """\
**Label join**: three dictionaries in Python a row; decoding, encoding and dumps of the state are counted.""",
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


def told(missed: Sequence[str]) -> str:
    """The end of the page: what explains the `missed` rows, and which of them nothing explains.

    >>> print(told(["label join, by far", "flying"]).strip())  # doctest: +ELLIPSIS
    ## What is missing, and where it goes
    <BLANKLINE>
    - **Label join**: three dictionaries in Python a row; ...
    - Not explained yet: flying.
    """
    texts = [one.text for one in SHORTFALLS if any(map(one.explains, missed))]
    left = [what for what in missed if not any(one.explains(what) for one in SHORTFALLS)]
    texts += [f"Not explained yet: {'; '.join(left)}."] if left else []
    if not texts:
        return ""
    items = ["- " + text.replace("\n", "\n  ") for text in texts]
    return "\n## What is missing, and where it goes\n\n" + "\n".join(items) + "\n"
