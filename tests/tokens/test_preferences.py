"""Files of preferences: every record accepted or rejected with its reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from groundup import config
from groundup.errors import DataError, RecipeError, first_line
from groundup.tokens import PreferenceReading, PreferenceSourceConfig, preference_source_identity

GOOD = {"prompt": "Which?", "chosen": "This.", "rejected": "That."}
JUDGED = {"prompt": "Which?", "completion": "This.", "label": False}


def reading(folder: Path, records: list[Any], name: str = "p.jsonl", **changes: Any) -> PreferenceReading:
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records)
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return PreferenceReading(PreferenceSourceConfig(name="p", path=str(folder / name), **changes), folder)


def test_total_is_accepted_and_rejected(tmp_path: Path) -> None:
    found = reading(tmp_path, [GOOD, {**GOOD, "chosen": "That."}, "{broken", {"text": "x"}, JUDGED, GOOD])
    assert len(list(found)) == 2
    account = found.account()
    assert account["total"] == 6 == account["accepted"] + sum(account["rejected"].values())
    assert "chosen and rejected are the same" in account["rejected"]
    assert "one answer: set format: judged" in account["rejected"]
    assert len(list(found)) == 2, "a second pass counts anew"
    assert found.account() == account


def test_judged_answers_are_read_as_such(tmp_path: Path) -> None:
    (found,) = list(reading(tmp_path, [JUDGED, GOOD], format="judged"))
    assert found.chosen is None and found.rejected is not None and found.rejected.text == "This."


@pytest.mark.parametrize("name", ["p.json", "p.jsonl.gz"])
def test_json_and_compressed_files_are_read(tmp_path: Path, name: str) -> None:
    records = [GOOD, GOOD] if name.endswith("gz") else [json.dumps([GOOD, GOOD])]
    assert len(list(reading(tmp_path, records, name))) == 2


def test_a_source_without_any_preference_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record of 'p' can be used, 1 rejected: no preference") as caught:
        list(reading(tmp_path, [{"text": "x"}]))
    assert len(first_line(caught.value)) <= 200


def test_fields_of_other_names_are_told_by_the_recipe(tmp_path: Path) -> None:
    fields = {"prompt": "{title}: {meta.q}", "chosen": "best", "rejected": "worst", "system": "rules"}
    record = {"title": "Sea", "meta": {"q": "Deep?"}, "best": "Yes.", "worst": "No.", "rules": "Be short."}
    (found,) = list(reading(tmp_path, [record], fields=fields))
    assert [(turn.role, turn.text) for turn in found.prompt] == [("system", "Be short."), ("user", "Sea: Deep?")]
    assert found.chosen is not None and found.chosen.text == "Yes."
    judged = {"prompt": "q", "completion": "reply", "label": "liked"}
    records: list[Any] = [{"q": "A?", "reply": "B.", "liked": liked} for liked in (1, 0, True, "yes", 0.5)]
    read = reading(tmp_path, records, format="judged", fields=judged)
    assert [each.chosen is not None for each in read] == [True, False, True]
    assert read.account()["rejected"] == {"label is neither true nor false": 2}
    missing = reading(tmp_path, [{"title": "Sea", "meta": {}, "best": "Yes.", "worst": "No."}], fields=fields)
    with pytest.raises(DataError, match=r"no field 'meta\.q'"):
        list(missing)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"prompt": "q"}, "name chosen and rejected, or completion and label, as well"),
        ({"chosen": "a"}, "chosen and rejected go together"),
        ({"prompt": "q", "completion": "a", "label": "l"}, "set format: judged"),
        ({"completion": "a", "label": "l"}, "a judged answer needs its prompt"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, str], fault: str) -> None:
    with pytest.raises(RecipeError) as caught:
        config.build(PreferenceSourceConfig, {"name": "p", "path": "p.jsonl", "fields": fields}, "source")
    assert fault in str([caught.value.message, *caught.value.details])


def test_a_folder_of_a_dataset_is_read_split_by_split(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for split, count in (("train", 3), ("test", 2)):
        table = pyarrow.table({key: [value] * count for key, value in GOOD.items()})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    card = "---\ntask_categories: [text-generation]\n---\n# pairs\n"
    (tmp_path / "set" / "README.md").write_text(card, encoding="utf-8")
    for split, count in (("train", 3), ("test", 2)):
        source = PreferenceSourceConfig(name="p", path=str(tmp_path / "set"), dataset_split=split)
        assert len(list(PreferenceReading(source, tmp_path))) == count


def test_identity_is_content_and_settings_not_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        reading(tmp_path / folder, [GOOD])
    one, two = (
        preference_source_identity(PreferenceSourceConfig(name="p", path=str(tmp_path / folder / "p.jsonl")), tmp_path)
        for folder in ("one", "two")
    )
    assert one == two
    reading(tmp_path / "two", [GOOD, GOOD])
    changed = PreferenceSourceConfig(name="p", path=str(tmp_path / "two" / "p.jsonl"))
    assert preference_source_identity(changed, tmp_path) != one
