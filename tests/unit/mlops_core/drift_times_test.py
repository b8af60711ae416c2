"""Times of the recent values: the same whether they came one by one or in one go."""

from hypothesis import given
from hypothesis import strategies as st

from driftloop.mlops_core.drift.change_times import KEPT, RecentTimes


@given(st.integers(1, 7), st.lists(st.integers(1, 3000), min_size=1, max_size=6), st.data())
def test_what_is_known_of_a_change_does_not_depend_on_how_many_values_came_with_it(
    stride: int, sizes: list[int], data: st.DataObject
) -> None:
    parts, whole, before = RecentTimes(stride), RecentTimes(stride), 0
    whole.add(range(sum(sizes)))
    for size in sizes:
        parts.add(range(before, before + size))
        now = data.draw(st.integers(before + 1, before + size))
        index = data.draw(st.integers(0, now - 1))
        assert parts.at(index, now) == whole.at(index, now)
        before += size


def test_what_is_long_past_has_the_oldest_time_that_is_known() -> None:
    times = RecentTimes(stride=1)
    times.add(range(5000))
    assert times.at(0, now=3000) == 3000 - KEPT
    assert len(times.recent) == KEPT
