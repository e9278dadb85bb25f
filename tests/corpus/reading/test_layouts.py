"""Of a Hugging Face dataset only the data of the wanted part is read; of other folders everything."""

import json

import pytest

from groundup.corpus.reading.layouts import Wanted, left_out, license_of_card
from groundup.errors import DataError, first_line

TRAIN = Wanted("", "train")


def card(text):
    return f"---\n{text}\n---\n# A dataset\n".encode()


def kept(files, wanted=TRAIN, is_repository=False):
    names = sorted(files)
    reasons = left_out(names, lambda name: files[name], wanted, "here", is_repository)
    assert set(reasons) <= set(names)
    return [name for name in names if name not in reasons]


def saved(names, folder=""):
    state = {"_data_files": [{"filename": name} for name in names], "_format_type": None}
    files = {f"{folder}{name}": b"" for name in names}
    return {**files, f"{folder}state.json": json.dumps(state).encode(), f"{folder}dataset_info.json": b"{}"}


def test_an_ordinary_folder_is_read_whole():
    files = {"a.txt": b"", "README.md": b"# Words\n", "test/b.txt": b"", "sub/state.json": b'{"text": "a state"}'}
    assert kept(files) == sorted(files)
    assert kept({"README.md": b"---\nlayout: post\n---\nA blog\n", "train.txt": b""}) == ["README.md", "train.txt"]
    assert kept({"README.md": b"---\n: [\n---\n", "a.txt": b""}) == ["README.md", "a.txt"]


def test_a_saved_dataset_is_the_files_of_its_state():
    files = saved(["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]) | {"cache-1f.arrow": b""}
    assert kept(files) == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def test_splits_of_a_saved_dictionary():
    files = {"dataset_dict.json": b'{"splits": ["train", "test"]}', **saved(["d.arrow"], "train/")}
    files |= saved(["d.arrow"], "test/")
    assert kept(files) == ["train/d.arrow"]
    assert kept(files, Wanted("", "test")) == ["test/d.arrow"]
    assert kept(files, Wanted("", "all")) == ["test/d.arrow", "train/d.arrow"]
    with pytest.raises(DataError, match="set dataset_split to one of train, test, all") as caught:
        kept(files, Wanted("", "validation"))
    assert len(first_line(caught.value)) <= 200


def test_configurations_and_splits_of_a_card():
    text = """configs:
- config_name: en
  data_files:
  - split: train
    path: en/train-*
  - split: test
    path: [en/test-*]
- config_name: zh
  default: true
  data_files: zh/*.parquet"""
    files = {"README.md": card(text), "zh/a.parquet": b"", "other.txt": b""}
    files |= {f"en/{name}.parquet": b"" for name in ("train-0", "train-1", "test-0")}
    assert kept(files) == ["zh/a.parquet"]
    assert kept(files, Wanted("en", "train")) == ["en/train-0.parquet", "en/train-1.parquet"]
    assert kept(files, Wanted("en", "all")) == ["en/test-0.parquet", "en/train-0.parquet", "en/train-1.parquet"]
    with pytest.raises(DataError, match="'fr' here; set dataset_config to one of en, zh"):
        kept(files, Wanted("fr", "train"))
    with pytest.raises(DataError, match="set dataset_config: en, zh"):
        kept(files | {"README.md": card(text.replace("  default: true\n", ""))})


def test_a_folder_for_each_configuration():
    text = "configs:\n- config_name: default\n  data_dir: data\n- config_name: raw\n  data_dir: ./raw"
    files = {"README.md": card(text), "data/train.jsonl": b"", "data/test.jsonl": b"", "raw/a.jsonl": b""}
    assert kept(files) == ["data/train.jsonl"]
    assert kept(files, Wanted("raw", "train")) == ["raw/a.jsonl"]


@pytest.mark.parametrize(
    ("names", "train"),
    [
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], [0]),
        (["a.jsonl", "b.jsonl"], [0, 1]),
        (["train/a.txt", "dev/b.txt", "README.md"], [0]),
        (["my_training_set.csv", "eval.csv"], [0]),
        (["constrained.txt", "latest.txt"], [0, 1]),
    ],
)
def test_splits_by_name_where_no_card_says_them(names, train):
    files = dict.fromkeys(names, b"")
    assert kept(files, is_repository=True) == sorted(names[i] for i in train)


def test_a_configuration_that_nothing_has_is_refused():
    with pytest.raises(DataError, match="no configurations"):
        kept({"a.txt": b""}, Wanted("en", "train"), is_repository=True)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data/**/*.jsonl", ["data/a.jsonl", "data/x/b.jsonl", "data/x/y/c.jsonl"]),
        ("data/*.jsonl", ["data/a.jsonl"]),
        ("data/**", ["data/a.jsonl", "data/x/b.jsonl", "data/x/y/c.jsonl"]),
        ("{data/x,other}/[!c].*", ["data/x/b.jsonl", "other/d.csv"]),
        ("**/" * 50 + "*" * 200 + "no", []),
        ("{a,b}" * 50 + "[z-a]", []),
    ],
)
def test_patterns_of_a_card(pattern, expected):
    files = {"README.md": card(f"configs:\n- config_name: all\n  data_files: '{pattern}'")}
    files |= dict.fromkeys(["data/a.jsonl", "data/x/b.jsonl", "data/x/y/c.jsonl", "other/d.csv"], b"")
    assert kept(files) == expected


def test_copies_of_several_repositories_below_one_folder():
    one = {"one/README.md": card("task_categories: [x]"), "one/data/train.parquet": b"", "one/data/test.parquet": b""}
    two = {"two/README.md": card("dataset_info: {}"), "two/a.jsonl": b"", "two/dataset_infos.json": b"{}"}
    assert kept({**one, **two, "LICENSE.txt": b""}) == ["LICENSE.txt", "one/data/train.parquet", "two/a.jsonl"]
    assert kept({**one, "README.md": card("task_categories: [x]")}) == ["one/data/train.parquet"]


def test_the_licence_of_a_card():
    assert license_of_card(card("license: cc-by-4.0")) == "cc-by-4.0"
    assert license_of_card(card("license: [mit, apache-2.0]")) == "mit, apache-2.0"
    assert license_of_card(card(f"license: {'x' * 1000}")) == "x" * 200
    for nothing in (b"# Words\n", card("license: 7"), card("license: {a: b}"), card(": ["), b"\xff"):
        assert license_of_card(nothing) == ""
