"""What a reader says of its searches and tables."""

import pytest

from deployments.metrics.local import LocalSink
from deployments.metrics.meters import recording_to
from deployments.similarity.metering import measured, show


def test_searches_are_counted_also_where_they_fail() -> None:
    sink = LocalSink()
    with recording_to(sink):
        with measured(3):
            pass
        with pytest.raises(OSError), measured(1):
            raise OSError
    assert sink.value("safeguard_index_queries_total") == 4
    assert sink.value("safeguard_index_latency_seconds") == 2
    assert sink.value("safeguard_index_search_seconds_total") > 0


def test_tables_that_are_not_there_are_left_out() -> None:
    sink = LocalSink()
    with recording_to(sink):
        show(
            {
                "a@1": {"rows": 5, "unindexed_rows": 2, "version": 9, "exists": True},
                "b@1": {"rows": 0, "unindexed_rows": 0, "version": 0, "exists": False},
            }
        )
    assert sink.series("safeguard_index_rows") == {("a@1",): 5}
    assert sink.series("safeguard_index_unindexed_rows") == {("a@1",): 2}
    assert sink.series("safeguard_index_reader_version") == {("a@1",): 9}
