"""Files of preferences: every record accepted or rejected with its reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from groundup.errors import DataError, first_line
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
