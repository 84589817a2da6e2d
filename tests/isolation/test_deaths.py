import pytest

from fp4guard.isolation.deaths import crash, not_loaded


@pytest.mark.parametrize(("status", "how"), [
    (9, "was ended by SIGKILL"), (35, "was ended by signal 35"), (3 << 8, "ended itself, exit status 3"),
])  # fmt: skip
def test_end_is_told_by_its_status(status, how):
    assert crash(status, "", {}).headline.endswith(how)
    assert how in str(not_loaded("mine.py::it", status, 120, ""))
