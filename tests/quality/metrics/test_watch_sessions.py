"""Spans of time united: against the definition, whatever the order, and where one span holds another."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quality.metrics.watch_sessions import TimeSpans, merge_spans

spans = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 12)), max_size=14)


@given(spans, st.integers(0, 4), st.integers(0, 2**42))
def test_spans_within_the_gap_of_each_other_are_one(drawn: list[tuple[int, int, int]], gap: int, base: int) -> None:
    table = np.array(drawn, np.int64).reshape(-1, 3)
    keys, starts = table[:, 0].astype(np.uint64), table[:, 1] + base
    got, rows = merge_spans(TimeSpans(keys, starts, starts + table[:, 2]), gap)
    expected: list[list[int]] = []
    for key, start, length in sorted(drawn):
        if expected and expected[-1][0] == key and start - expected[-1][2] <= gap:
            expected[-1][2] = max(expected[-1][2], start + length)
        else:
            expected.append([key, start, start + length])
    assert np.stack([got.key.astype(np.int64), got.start - base, got.last - base], axis=1).tolist() == expected
    for row, (key, start, length) in zip(rows.tolist(), drawn, strict=True):
        assert expected[row][0] == key
        assert expected[row][1] <= start
        assert start + length <= expected[row][2]
