import pytest

from fp4guard.files import obstacle, write_atomically


@pytest.mark.parametrize("name", ["file", "new", "folder/new", "other/folders/new"])
def test_nothing_stands_in_the_way_of_a_file(tmp_path, name):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert obstacle(tmp_path / name) is None
    assert sorted(tmp_path.rglob("*")) == before
    write_atomically(tmp_path / name, "new")
    assert (tmp_path / name).read_text() == "new"


@pytest.mark.parametrize(
    ("name", "why"), [("folder", "it is a folder"), ("file/new", "is no folder"), ("file/a/new", "is no folder")]
)
def test_what_stands_in_the_way_is_told(tmp_path, name, why):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    assert obstacle(tmp_path / name).endswith(why)
    with pytest.raises(OSError):
        write_atomically(tmp_path / name, "new")


def test_a_file_that_fails_is_left_as_it_was(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file", "new \udc80")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
