import pytest

from fp4guard.durations import seconds
from fp4guard.errors import UsageError


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("60s", 60), ("1.5m", 90), ("2h", 7200)])
def test_durations(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0.0m", "-1s", "soon", "5 m", "1d", "inf", "1e3"])
def test_what_is_none_is_refused(text):
    with pytest.raises(UsageError, match="allowed are numbers above 0 with s, m or h, such as 60s, 5m, 2h"):
        seconds(text)
