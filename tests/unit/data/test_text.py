from pathlib import Path
from typing import Any

import pytest

from rlforge.data.text import TextSource
from rlforge.errors import DataError


def source(base: Path, **config: Any) -> TextSource:
    return TextSource(TextSource.Config.parse(config), base=base)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "b.txt").write_text("one\ntwo\n\n\nthree\n")
    (tmp_path / "a.txt").write_text("zero\n")
    return tmp_path


def test_each_matching_file_is_a_document_in_the_order_of_names(base: Path) -> None:
    made = source(base, path="*.txt", name="books")
    assert [made[i].id for i in range(len(made))] == ["books/a.txt", "books/b.txt"]
    assert made[1].text == "one\ntwo\n\n\nthree\n"


@pytest.mark.parametrize(
    ("separate", "texts"), [("lines", ["one", "two", "three"]), ("paragraphs", ["one\ntwo", "three"])]
)
def test_a_file_can_be_separated(base: Path, separate: str, texts: list[str]) -> None:
    made = source(base, path=str(base / "b.txt"), separate=separate)
    assert [made[i].text for i in range(len(made))] == texts


def test_no_match_an_empty_file_and_wrong_bytes_are_named(base: Path) -> None:
    with pytest.raises(DataError, match=r"source 'text': no file matches '.*/\*\.md'"):
        source(base, path="*.md")
    (base / "c.txt").write_text("\n")
    with pytest.raises(DataError, match=r"c\.txt: the file is empty"):
        source(base, path="*.txt")
    assert len(source(base, path="*.txt", on_bad_row="skip").skipped) == 1
    (base / "c.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"c\.txt: not valid UTF-8"):
        source(base, path="*.txt")
