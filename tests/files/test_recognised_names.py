"""Types are recognised by what names say, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.errors import BadMetadata
from nightmill.files.recognition import Sorting, check_recognise
from nightmill.model.file_type import FileType

HEADS = FileType(name="head", name_pattern="im{exposure:06d}.head", recognise="exposure > 0")
LISTS = FileType(name="list", name_pattern="list{run}.txt", recognise="run != 'x'")


@pytest.mark.req("X12", "X13")
def test_a_mixed_folder_is_sorted_by_names(tmp_path: Path) -> None:
    sorting = Sorting([HEADS, LISTS])
    for name, type_ in (("im000012.head", "head"), ("lista.txt", "list")):
        (tmp_path / name).write_text("text")
        assert sorting.open(tmp_path / name, None, name)[0].name == type_
    (tmp_path / "im000000.head").write_text("text")
    with pytest.raises(BadMetadata) as caught:
        sorting.open(tmp_path / "im000000.head", None, "im000000.head")
    assert caught.value.reason == "no_type"
    assert "head: exposure is 0" in caught.value.message
    assert "list: im000000.head" in caught.value.message or "list{run}.txt" in caught.value.message


def test_what_neither_header_nor_name_says_cannot_be_asked() -> None:
    assert list(check_recognise(HEADS)) == []
    [text] = check_recognise(HEADS.model_copy(update={"recognise": "exposur > 0"}))
    assert text.startswith("recognise asks for 'exposur'")
