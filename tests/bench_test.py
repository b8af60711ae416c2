"""The benchmark measures what it says: every row is met, counted, and on the page."""

from infra.bench import agents, consumers, traffic
from infra.bench.table import Row, markdown
from streams import codec


def test_the_page_says_which_goals_were_missed() -> None:
    rows = [
        Row("a", 1234.5, "rows", ">= 1,000", True),
        Row("b", 0.456, "x", ">= 0.5", False),
        Row("c", 12.34, "us"),
    ]
    page = markdown([("Speed", rows)])
    assert "| a | 1,234 rows | >= 1,000 | yes |" in page
    assert "| b | 0.46 x | >= 0.5 | **no** |" in page
    assert "| c | 12.3 us |  |  |" in page


def test_the_others_count_the_rows_of_single_events_and_of_batches() -> None:
    singles = [codec.encode(one) for one in traffic.singles(10)]
    batches = [codec.encode(one) for one in traffic.batches(1000, 250)]
    assert (consumers.matrix(singles), consumers.matrix(batches)) == (10, 1000)


def test_a_single_event_is_of_the_size_that_the_goals_are_for() -> None:
    sizes = [len(codec.encode(one)) for one in traffic.singles(100)]
    assert 250 < sum(sizes) / len(sizes) < 450


def test_every_agent_of_the_data_plane_is_measured() -> None:
    measured = agents.measure(rows=4_000, single_rows=1_000)
    assert {row.what.split(",")[0].split(" (")[0] for row in measured} >= {
        "summarising",
        "drift",
        "joining",
        "performance",
        "storing",
    }
    assert all(row.figure > 0 for row in measured)
