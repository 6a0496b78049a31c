"""Somebody waits: while calls are answered, a while after each, and at first."""

import pytest

from deployments.pipeline.answering import Answering


def test_it_holds_during_calls_and_a_while_after_each() -> None:
    now = 100.0
    answering = Answering(10.0, clock=lambda: now)
    assert answering(), "a pipeline that was added under load begins with little"
    now = 110.0
    assert not answering()
    with answering.call():
        now = 500.0
        assert answering()
        with pytest.raises(KeyError), answering.call():
            raise KeyError
        now = 600.0
        assert answering(), "the first call is not over"
    now = 609.9
    assert answering()
    now = 610.0
    assert not answering()
