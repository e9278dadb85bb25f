"""Recipes: YAML's traps are closed, all faults are told at once with their key paths, equal configs hash alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from groundup import config
from groundup.config import Config, Name
from groundup.errors import RecipeError, first_line


class Adamw(Config):
    kind: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    betas: tuple[float, float] = (0.9, 0.95)


class Muon(Config):
    kind: Literal["muon"] = "muon"
    momentum: float = 0.95


class Source(Config):
    name: Name
    path: str
    share: float = Field(default=1.0, ge=0)


class Train(Config):
    steps: int = Field(default=10, ge=1)
    """How many optimizer updates."""
    compile: bool = False
    optimizer: Annotated[Adamw | Muon, Field(discriminator="kind")] = Adamw()
    lambda_: float = Field(default=1.0, alias="lambda")


class Toy(Config):
    name: Name = "toy"
    seed: int = 1
    train: Train = Train()
    sources: tuple[Source, ...] = ()
    note: str | None = None
    parts: tuple[str, ...] = Field(default=("all",), min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Toy:
        if self.seed == 13:
            raise ValueError("seed 13 brings bad luck; take another")
        return self


def parse(text: str) -> Any:
    return config.parse_yaml(text, "toy.yaml")


def faults(text: str, overrides: list[str] | None = None) -> list[str]:
    """All lines of the one error that `text` causes."""
    with pytest.raises(RecipeError) as caught:
        config.build(Toy, config.apply_overrides(parse(text), overrides or []), "toy.yaml")
    assert len(first_line(caught.value)) <= 200
    return [caught.value.message, *caught.value.details]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E+5", 100000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e3", -1500.0),
        ("1_000", 1000),
        ("+5", 5),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("1:30", "1:30"),
        ("017", "017"),
        ("0o17", "0o17"),
        ("0x1f", "0x1f"),
        ("2020-01-01", "2020-01-01"),
        ("NaN", "NaN"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("日本", "日本"),
    ],
)
def test_scalars_are_json_like(text: str, value: Any) -> None:
    found = parse(f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a: 1\na: 2", "twice"),
        ("a: {b: 1, b: 2}", "twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: !!python/object/apply:builtins.open [/tmp/marker, w]", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("a: !!timestamp 2020-01-01", "tag"),
        ("a: !!set {x}", "tag"),
        ("a: !own 1", "tag"),
        ("a:\n\tb: 1", "tabs"),
        ("? [a]\n: 1", "plain word"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: [1", "toy.yaml"),
        ("a: \x00", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("[" * 60 + "]" * 60, "nested deeper"),
    ],
)
def test_traps_are_refused_with_place_and_reason(text: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=r"toy\.yaml") as caught:
        parse(text)
    assert hint in caught.value.message
    assert len(first_line(caught.value)) <= 200


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(RecipeError, match="line 2: aliases"):
        parse("\n".join([*lines, "model: *a9"]))


def test_python_tags_run_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with pytest.raises(RecipeError):
        parse(f'model: !!python/object/apply:builtins.open ["{marker}", "w"]')
    assert not marker.exists()


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        value = parse(text)
    except RecipeError as error:
        assert len(first_line(error)) <= 200
    else:
        json.dumps(value)


def test_all_faults_are_told_at_once_with_their_key_paths() -> None:
    found = faults(
        """
        name: ../../etc
        sed: 3
        train: {steps: ten, compile: yes, optimizer: {kind: adamw, learning_rate: 2, beta: 1}, lambd: 2}
        sources: [{name: a, path: 7, shar: 1}, {name: b}]
        """
    )
    text = "\n".join(found)
    assert found[0].startswith("toy.yaml: 10 faults: ")
    for part in (
        "name: should be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit, got \"../../etc\"",
        "sed: unknown key; did you mean 'seed'?",
        'train.steps: should be a valid integer, got "ten"',
        'train.compile: should be a valid boolean, got "yes"; write true or false',
        "train.optimizer.learning_rate: should be less than or equal to 1, got 2",
        "train.optimizer.beta: unknown key; did you mean 'betas'?",
        "train.lambd: unknown key; did you mean 'lambda'?",
        "sources.0.path: should be a valid string, got 7",
        "sources.0.shar: unknown key; did you mean 'share'?",
        "sources.1.path: required, but not given",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("train: {optimizer: {kind: adamm}}", "train.optimizer.kind: unknown 'adamm'; did you mean 'adamw'?"),
        ("train: {optimizer: {kind: sgd}}", "train.optimizer.kind: unknown 'sgd'; known here: adamw, muon"),
        ("train: {optimizer: {momentum: 1.0}}", "train.optimizer.kind: required, but not given"),
        (
            "train: {optimizer: {kind: muon, betas: [1, 2]}}",
            "train.optimizer.betas: unknown key; known here: kind",
        ),
        ("seed: 1.5", "seed: should be a valid integer"),
        ("seed: true", "seed: should be a valid integer"),
        ("seed: '3'", "seed: should be a valid integer"),
        ("note: 3", "note: should be a valid string"),
        ("seed: 13", "seed 13 brings bad luck; take another"),
        ("train: [1]", "train: should be a mapping, such as {key: value}, got [1]"),
        ("train: {optimizer: muonn}", 'train.optimizer: should be a mapping, such as {kind: muon}, got "muonn"'),
        ("train: {betas: [0.9, 0.95]}", "train.betas: unknown key; did you mean 'optimizer.betas'?"),
        ("parts: []", "parts: should have at least 1 item, got []"),
        ("train: {steps: .nan}", "train.steps: nan is not a finite number"),
        ("train: {optimizer: {kind: adamw, betas: [.inf, 1e400]}}", "train.optimizer.betas.0: inf is not a finite"),
        ('note: "\\ud800"', "surrogate"),
    ],
)
def test_a_fault_is_one_sentence(text: str, fault: str) -> None:
    assert fault in "\n".join(faults(text))


def test_numbers_that_are_not_finite_hide_no_other_fault() -> None:
    found = faults(
        "seed: 1.5\ntrain: {steps: 0, lambda: .nan, optimizer: {kind: adamw, betas: [2, .inf, 1]}}\nnot: .inf"
    )
    assert found == [
        "toy.yaml: 6 faults: train.lambda: nan is not a finite number",
        "train.optimizer.betas.1: inf is not a finite number",
        "not: inf is not a finite number",
        "seed: should be a valid integer, got 1.5",
        "train.steps: should be greater than or equal to 1, got 0",
        found[-1],
    ]
    assert "train.optimizer.betas" in found[-1]


def test_many_faults_are_cut_short() -> None:
    found = faults("\n".join(f"key{i}: 1" for i in range(40)))
    assert len(found) == config.FAULT_LIMIT + 1
    assert found[-1] == "... and 28 more"


def test_integers_are_taken_for_floats_and_lists_for_tuples() -> None:
    built = config.build(Toy, parse("train: {optimizer: {kind: adamw, betas: [0, 1e-3]}, lambda: 2}"), "toy.yaml")
    assert built.train.optimizer == Adamw(betas=(0.0, 0.001))
    assert built.train.lambda_ == 2.0


class Sizes(Config):
    steps: int = Field(default=10, ge=1)
    rate: float = 1.0
    many: tuple[int, ...] = ()
    named: dict[str, int] = {}
    either: int | Literal["auto"] | None = None
    anything: dict[str, Any] = {}


class Nested(Config):
    sizes: Annotated[Adamw | Muon, Field(discriminator="kind")] | Sizes = Sizes()


def test_whole_numbers_may_be_written_with_an_exponent() -> None:
    text = "steps: 1e6, rate: 1e6, many: [2, 1.5e3, 1E+2], named: {int: 1e1}, either: 2e0, anything: {theta: 1e6}"
    values = config.apply_overrides(parse(f"sizes: {{{text}}}"), ["sizes.steps=2e6"])
    sizes = config.build(Nested, values, "toy.yaml").sizes
    assert isinstance(sizes, Sizes)
    assert (sizes.steps, sizes.many, sizes.named, sizes.either) == (2_000_000, (2, 1500, 100), {"int": 10}, 2)
    assert all(type(number) is int for number in (sizes.steps, *sizes.many, *sizes.named.values(), sizes.either))
    assert (type(sizes.rate), type(sizes.anything["theta"])) == (float, float), "only where an integer is wanted"
    spelt = [config.build(Toy, parse(f"train: {{steps: {steps}}}"), "toy.yaml") for steps in ("1e3", "1000", "1_000")]
    assert len({config.digest(each) for each in spelt}) == 1, "it is the same recipe"


def test_what_is_no_whole_number_is_none_with_an_exponent_either() -> None:
    assert faults("seed: 1.5e0") == ["toy.yaml: 1 fault: seed: should be a valid integer, got 1.5"]
    assert faults("seed: 1e300")[0].endswith("seed: should be a valid integer, got 1e+300"), "no float is exact there"
    assert faults("seed: 1e1\ntrain: {steps: 25e-1, lambd: 1}")[0].startswith("toy.yaml: 2 faults: train.")
    assert faults("train: {steps: -1e3}")[0].endswith("train.steps: should be greater than or equal to 1, got -1000")


def test_overrides_reach_nested_keys_lists_and_missing_sections() -> None:
    values = {"sources": [{"name": "a", "path": "x"}], "note": None}
    overrides = ["sources.0.path=other.txt", "train.optimizer.kind=muon", "seed=7", "note=no", "train.lambda=1e-1"]
    built = config.build(Toy, config.apply_overrides(values, overrides), "toy.yaml")
    assert (built.sources[0].path, built.seed, built.note) == ("other.txt", 7, "no")
    assert built.train == Train.model_validate({"optimizer": Muon(), "lambda": 0.1})
    assert values == {"sources": [{"name": "a", "path": "x"}], "note": None}


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("seed", "is no override"),
        ("=3", "is no override"),
        ("a-b=3", "is no override"),
        ("sources.5.path=x", "no position in a list of 1"),
        ("sources.first.path=x", "no position in a list of 1"),
        ("seed.deeper=1", "single value"),
        ("train.steps=[1", "override train.steps"),
        ("train.steps=!!binary x", "tag"),
    ],
)
def test_a_wrong_override_names_itself(override: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=r".") as caught:
        config.apply_overrides({"seed": 1, "sources": [{"name": "a"}]}, [override])
    assert hint in caught.value.message


def test_extends_merges_beneath_and_only_once(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 2\ntrain: {steps: 5, optimizer: {kind: muon, momentum: 0.5}}\n")
    (tmp_path / "top.yaml").write_text("extends: base.yaml\ntrain: {compile: true, optimizer: {kind: adamw}}\n")
    (tmp_path / "third.yaml").write_text("extends: top.yaml\n")
    top = config.load(Toy, tmp_path / "top.yaml", ["train.steps=6"])
    assert top.seed == 2
    assert top.train == Train(steps=6, compile=True, optimizer=Adamw())
    with pytest.raises(RecipeError, match="at most one"):
        config.load(Toy, tmp_path / "third.yaml")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "empty"),
        (b"# only a comment\n", "empty"),
        (b"[1, 2, 3]\n", "this is a list"),
        (b"just words\n", "this is a str"),
        (b"extends: [a]\n", "extends must be one file name"),
        (b"extends: gone.yaml\n", "no such recipe"),
        (b"name: \xff\xfe\n", "not UTF-8 text at byte 6"),
        (b"a: " + b"x" * config.RECIPE_LIMIT_BYTES, "too long"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: bytes, hint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"bad\.yaml|gone\.yaml") as caught:
        config.load(Toy, path)
    assert hint in caught.value.message


def test_missing_files_folders_and_impossible_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        config.load(Toy, tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        config.load(Toy, tmp_path)
    with pytest.raises(RecipeError):
        config.load(Toy, tmp_path / ("x" * 5000))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfseed: 4\n")
    assert config.load(Toy, tmp_path / "bom.yaml").seed == 4


toys = st.builds(
    Toy,
    name=st.just("toy") | st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z"),
    seed=st.integers(-(2**80), 2**80).filter(lambda seed: seed != 13),
    note=st.none() | st.text(st.characters(codec="utf-8")),
    train=st.builds(Train, optimizer=st.builds(Adamw, learning_rate=st.floats(1e-12, 1.0)) | st.builds(Muon)),
)


@example(Toy(train=Train(optimizer=Muon()), note="a\x85b\u2028\u2029"))
@given(toys)
def test_the_printed_recipe_reads_back_to_the_same_config(toy: Toy) -> None:
    again = config.build(Toy, parse(config.to_yaml(toy)), "again")
    assert again == toy
    assert config.digest(again) == config.digest(toy)
    assert "!!" not in config.to_yaml(Toy(train=Train(optimizer=Adamw(learning_rate=1e-5))))


def test_the_digest_is_the_same_in_another_process() -> None:
    value = {"b": [1, 2.5, "é\ud800"], "a": {"x": None, "y": True}}
    script = (
        "from groundup.config import digest\nprint(digest({'a': {'y': True, 'x': None}, 'b': [1, 2.5, 'é\\ud800']}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == config.digest(value)


@pytest.mark.parametrize("value", [{1: 2}, {"a": {1, 2}}, object(), b"bytes", Path("x")])
def test_what_is_not_plain_is_not_hashed(value: Any) -> None:
    with pytest.raises(TypeError):
        config.digest(value)
    with pytest.raises(ValueError, match="JSON"):
        config.digest({"a": float("nan")})


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Toy().seed = 3  # type: ignore[misc]


def test_the_schema_tells_an_editor_fields_and_their_meaning() -> None:
    schema = config.json_schema(Toy)
    assert schema["additionalProperties"] is False
    assert "extends" in schema["properties"]
    assert schema["$defs"]["Train"]["properties"]["steps"]["description"] == "How many optimizer updates."
    assert "lambda" in schema["$defs"]["Train"]["properties"]


class Listed(Config):
    sources: tuple[Source, ...] = Field(min_length=1)


def test_a_fault_in_the_only_item_of_a_list_does_not_make_the_list_too_short() -> None:
    with pytest.raises(RecipeError) as caught:
        config.build(Listed, {"sources": [{"name": "a", "path": "b", "pth": 1}]}, "r")
    assert "1 fault: sources.0.pth" in caught.value.message
    with pytest.raises(RecipeError, match="sources"):
        config.build(Listed, {"sources": []}, "r")


class Pair(Config):
    """Two numbers that know each other."""

    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _in_order(self) -> Pair:
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high: {self.high}; lower it")
        return self


class OfPairs(Config):
    """A section of several."""

    name: str = "n"
    pair: Pair = Pair()


def test_a_rule_between_fields_is_told_without_the_whole_section() -> None:
    with pytest.raises(RecipeError, match=r"pair: low: 3 is above high: 1; lower it$"):
        config.build(OfPairs, {"name": "x" * 300, "pair": {"low": 3}}, "recipe.yaml")
