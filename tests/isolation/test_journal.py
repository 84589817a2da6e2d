from fp4guard.isolation.journal import Journal, read_journal


def test_last_record_is_whole_however_long_the_one_before_was(tmp_path):
    path = tmp_path / "journal"
    assert read_journal(path) == {}
    with path.open("wb", buffering=0) as file:
        journal = Journal(file)
        assert read_journal(path) == {}
        journal.case("kernels.x::x", "Case({'n': 123456789})")
        journal.launch("a_kernel", "launch.py:12")
        journal.launch("b", "x.py:1")
        assert read_journal(path) == {
            "target": "kernels.x::x", "case": "Case({'n': 123456789})", "launches": 2, "kernel": "b", "line": "x.py:1",
        }  # fmt: skip
        journal.case("y", "Case({})")
        assert read_journal(path) == {"target": "y", "case": "Case({})", "launches": 0}
