"""Recipe files: data is found from any folder, and faults between sections are told with their key paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from groundup import config
from groundup.corpus.augment import RewriteConfig
from groundup.corpus.augment.methods import SynonymsConfig
from groundup.errors import RecipeError, ResourceError, first_line
from groundup.models.bigrams import flops_of_step
from groundup.pipeline import Recipe, load_recipe, pretraining, run
from tests.end_to_end import tiny
from tests.pipeline.toys import fingerprints


def write(folder: Path, values: dict[str, Any], name: str = "toy.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    apart = json.loads(json.dumps(values))  # else what is used twice becomes a YAML alias
    path.write_text(yaml.safe_dump(apart, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """recipes/toy.yaml beside data/, its paths relative to the recipe's folder."""
    root = tmp_path / "project"
    tiny.write_data(root / "data")
    values = tiny.recipe(Path("../data"))
    del values["runtime"]
    write(root / "recipes", values)
    return root


def faults(values: dict[str, Any], folder: Path, *overrides: str) -> list[str]:
    """All lines of the error that the recipe causes."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, values), overrides)
    assert caught.value.exit_code == 2
    assert len(first_line(caught.value)) <= 200
    return [caught.value.message, *caught.value.details]


@pytest.mark.parametrize("start", [".", "recipes", "data", ".."])
def test_data_is_found_from_any_folder(project: Path, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / start)
    recipe = load_recipe(project / "recipes" / "toy.yaml")
    found = fingerprints(recipe, project)
    monkeypatch.chdir(project / "recipes")
    assert found == fingerprints(load_recipe("toy.yaml"), project)


def test_a_recipe_stands_by_itself_once_loaded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    recipe = load_recipe("project/recipes/toy.yaml")
    assert recipe.instruct is not None
    paths = [source.path for source in (*recipe.corpus.sources, *recipe.instruct.sources, *recipe.instruct.heldout)]
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in paths)
    again = config.build(Recipe, config.parse_yaml(config.to_yaml(recipe), "resolved"), "resolved")
    assert again == recipe


def test_lists_of_paths_are_found_from_any_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = tiny.recipe(Path("../data"))
    values["corpus"]["sources"][0]["path"] = [values["corpus"]["sources"][0]["path"]]
    recipe = load_recipe(write(project / "recipes", values, "lists.yaml"))
    assert [Path(path).is_file() for path in recipe.corpus.sources[0].paths] == [True]
    monkeypatch.chdir(project.parent)
    assert load_recipe(project / "recipes" / "lists.yaml") == recipe


def test_all_files_that_a_recipe_names_are_found_beside_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = config.read_yaml(project / "recipes" / "toy.yaml")
    for name in ("words.txt", "synonyms.tsv", "exam.txt", "key"):
        (project / "data" / name).write_text("x", encoding="utf-8")
    values["corpus"]["clean"] = {"word_lists": [{"name": "w", "path": "../data/words.txt"}]}
    values["corpus"]["decontaminate"] = [{"name": "e", "path": "../data/exam.txt"}]
    endpoint = {"url": "http://localhost:1", "model": "m", "api_key_file": "../data/key"}
    values["corpus"]["augment"] = [
        {"kind": "synonyms", "name": "s", "fraction": 0.5, "path": "../data/synonyms.tsv"},
        {"kind": "rewrite", "name": "f", "fraction": 0.5, "model_folder": "../data"},
        {"kind": "rewrite", "name": "e", "fraction": 0.5, "endpoint": endpoint},
    ]
    write(project / "recipes", values)
    monkeypatch.chdir(project.parent)
    corpus = load_recipe("project/recipes/toy.yaml").corpus
    synonyms, by_folder, by_endpoint = corpus.augment
    assert isinstance(synonyms, SynonymsConfig)
    assert isinstance(by_folder, RewriteConfig)
    assert isinstance(by_endpoint, RewriteConfig)
    assert by_endpoint.endpoint is not None
    named = (synonyms.path, by_folder.model_folder, by_endpoint.endpoint.api_key_file)
    paths = [corpus.clean.word_lists[0].path, corpus.decontaminate[0].path, *named]
    assert all(Path(path).is_absolute() and Path(path).exists() for path in paths), paths


def test_the_current_folder_comes_before_the_recipes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = project / "elsewhere" / "here"
    elsewhere.mkdir(parents=True)
    (elsewhere.parent / "data").mkdir()
    (elsewhere.parent / "data" / "text.jsonl").write_text('{"text": "The text of this folder."}\n', encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    recipe = load_recipe(project / "recipes" / "toy.yaml")
    assert recipe.corpus.sources[0].path == "../data/text.jsonl", "as written: it leads somewhere from here"
    assert recipe.instruct is not None
    assert Path(recipe.instruct.sources[0].path).is_absolute(), "this one only leads somewhere from the recipe"


def test_overrides_and_extends_meet_in_one_recipe(project: Path) -> None:
    top = write(project / "recipes", {"extends": "toy.yaml", "name": "longer", "pretrain": {"tokens": 20480}}, "b.yaml")
    recipe = load_recipe(top, ["instruct.lambda=3", "pretrain.optimizer.kind=adamw"])
    assert recipe.name == "longer"
    assert recipe.pretrain.tokens == 20480
    assert recipe.pretrain.global_batch_tokens == 512
    assert recipe.pretrain.optimizer.kind == "adamw"
    assert recipe.instruct is not None
    assert recipe.instruct.lambda_ == 3.0


def test_a_batch_that_is_no_whole_number_of_rows_is_refused(tmp_path: Path) -> None:
    found = faults(tiny.recipe(tmp_path), tmp_path, "pretrain.global_batch_tokens=500")
    assert "pretrain.global_batch_tokens: 500 is no multiple of context_length 64" in found[0]
    assert "use 448" in found[0]
    assert (
        "instruct.global_batch_tokens" in faults(tiny.recipe(tmp_path), tmp_path, "instruct.global_batch_tokens=65")[0]
    )


def test_a_mixture_of_unknown_sources_is_refused(tmp_path: Path) -> None:
    found = faults(tiny.recipe(tmp_path), tmp_path, "pretrain.mixture.txet=1.0")
    assert "pretrain.mixture names 'txet'" in found[0]
    assert "text" in found[0]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["instruct.mixture.nope=1"], "instruct.mixture"),
        (["instruct.mixture.questions=0"], "instruct.mixture"),
        (["pretrain.mixture.text=0"], "pretrain.mixture"),
        (["pretrain.mixture.text=-1"], "pretrain.mixture"),
    ],
)
def test_shares_that_leave_nothing_to_draw_are_refused(overrides: list[str], named: str, tmp_path: Path) -> None:
    assert named in faults(tiny.recipe(tmp_path), tmp_path, *overrides)[0]


@pytest.mark.parametrize("group", ["sources", "heldout"])
def test_two_sources_of_questions_need_two_names(group: str, tmp_path: Path) -> None:
    values = tiny.recipe(tmp_path)
    values["instruct"] = {**values["instruct"], group: values["instruct"]["sources"] * 2}
    assert "'questions'" in faults(values, tmp_path)[0]


def test_layers_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    ranks = ["runtime.devices=3", "runtime.parallel.tensor=3"]
    found = faults(tiny.recipe(tmp_path), tmp_path, *ranks)
    assert any("tensor: 3: it does not divide model.num_heads 2; use 1 or 2" in fault for fault in found), found
    quantised = ["runtime.devices=2", "runtime.parallel.tensor=2", "instruct.tune.kind=lora", "instruct.tune.base=int8"]
    assert "tune.base: int8 is for one rank" in faults(tiny.recipe(tmp_path), tmp_path, *quantised)[0]
    path = tiny.write_recipe(tmp_path)
    load_recipe(path, quantised[:-1])
    four = ["runtime.devices=4", "runtime.parallel.tensor=2", "pretrain.global_batch_tokens=128"]
    shared = load_recipe(path, four)
    assert shared.runtime.parallel.data_ranks(4) == 2, "rows are for two groups of ranks"


def test_exact_and_compiled_exclude_each_other(tmp_path: Path) -> None:
    found = faults(tiny.recipe(tmp_path), tmp_path, "runtime.exact=true", "runtime.devices=2")
    assert "set runtime.parallel.shard=1" in " ".join(found)
    found = faults(tiny.recipe(tmp_path), tmp_path, "runtime.exact=true", "runtime.compile=on")
    assert "exact" in found[0]


def test_fields_that_do_not_fit_together_are_named_without_the_whole_section(tmp_path: Path) -> None:
    values = tiny.recipe(tmp_path)
    values["model"] = {**values["model"], "hidden_size": 30, "num_heads": 4}
    text = "\n".join(faults(values, tmp_path))
    assert "model: hidden_size 30 is not divisible by num_heads 4" in text
    assert "got {" not in text


def test_five_faults_are_told_at_once_with_their_key_paths(tmp_path: Path) -> None:
    values = tiny.recipe(tmp_path)
    values["pretrain"] = {**values["pretrain"], "tokens": "many", "learning_rate": 1e-3}
    values["model"] = {**values["model"], "num_layer": 2}
    values["evalute"] = {}
    values["corpus"] = {**values["corpus"], "split": {"validation": 2}}
    found = faults(values, tmp_path)
    assert "5 faults" in found[0]
    text = "\n".join(found)
    for part in ("pretrain.tokens", "pretrain.learning_rate", "model.num_layer", "'num_layers'", "evalute"):
        assert part in text
    assert "did you mean 'evaluate'?" in text
    assert "corpus.split.validation" in text


@pytest.mark.parametrize("section", ["corpus", "model", "pretrain", "name"])
def test_a_required_section_is_named(section: str, tmp_path: Path) -> None:
    values = tiny.recipe(tmp_path)
    del values[section]
    assert f"{section}: required" in faults(values, tmp_path)[0]


@pytest.mark.parametrize("sources", ["text.jsonl", [], [None], [{"name": "text"}], {"name": "text"}, [{"path": 3}]])
def test_sources_that_are_none_are_refused_not_tripped_over(sources: Any, tmp_path: Path) -> None:
    values = tiny.recipe(tmp_path)
    values["corpus"] = {**values["corpus"], "sources": sources}
    assert "corpus.sources" in faults(values, tmp_path)[0]
    values = tiny.recipe(tmp_path)
    values["instruct"] = {**values["instruct"], "sources": sources}
    assert "instruct.sources" in faults(values, tmp_path)[0]


@pytest.mark.parametrize("instruct", ["yes", 3, []])
def test_a_section_that_is_no_mapping_is_refused(instruct: Any, tmp_path: Path) -> None:
    assert "instruct" in faults(tiny.recipe(tmp_path, instruct=instruct), tmp_path)[0]


def test_a_start_from_bigrams_needs_two_tables(project: Path) -> None:
    values = tiny.recipe(project / "data")
    values["pretrain"]["start"] = "bigrams"
    values["model"]["tied"] = True
    values["model"].pop("embedding_norm", None)
    assert any("pretrain.start: bigrams needs model.tied: false" in line for line in faults(values, project))


def test_a_start_with_induction_heads_needs_heads_that_can_look_back(project: Path) -> None:
    values = tiny.recipe(project / "data")
    values["pretrain"]["start"] = "induction"
    values["model"] |= {"tied": False, "num_layers": 1}
    said = "pretrain.start: induction needs model.num_layers of 2 or more"
    assert any(said in line and "or use start: bigrams" in line for line in faults(values, project))


@pytest.mark.parametrize("vocab_size", [300, 20_000, 200_000, 2_000_000])
def test_the_fit_of_a_start_never_costs_much_of_the_phase(project: Path, vocab_size: int) -> None:
    recipe = load_recipe(project / "recipes" / "toy.yaml", ["pretrain.tokens=1000000"])
    steps = pretraining._fit_steps(recipe, vocab_size)
    asked, phase = recipe.pretrain.start_steps, 1_000_000 * recipe.model.flops_per_token(vocab_size)
    cost = flops_of_step(vocab_size, recipe.model.hidden_size)
    assert steps == asked if asked * cost <= 0.05 * phase else steps * cost <= 0.05 * phase < (steps + 1) * cost


def test_fp8_is_refused_where_there_are_no_whole_matrices_for_it(project: Path) -> None:
    values = tiny.recipe(Path("../data"))
    values["pretrain"]["precision"] = "fp8"
    found = faults(values, project / "recipes", "runtime.parallel.tensor=2", "runtime.devices=2")
    assert any("precision: fp8 is for whole matrices, and runtime.parallel.tensor: 2" in line for line in found)
    found = faults(values, project / "recipes", "runtime.parallel.pipeline=2", "runtime.devices=2")
    assert any("precision: fp8 does not go with runtime.parallel.pipeline: 2" in line for line in found)
    values["pretrain"]["precision"] = "bf16"
    values["instruct"] |= {"precision": "fp8", "tune": {"kind": "lora"}}
    assert any("precision: fp8 is not for tune.kind: lora" in line for line in faults(values, project / "recipes"))
    del values["instruct"]
    values["pretrain"]["precision"] = "fp8"
    values["model"] = {"kind": "lstm", "context_length": 32, "num_layers": 2, "hidden_size": 32}
    assert any("model.kind: lstm has none" in line for line in faults(values, project / "recipes"))


def test_fp8_ends_a_run_before_it_begins_on_a_machine_without_it(project: Path) -> None:
    values = tiny.recipe(Path("../data"))
    values["pretrain"]["precision"] = "fp8"
    recipe = load_recipe(write(project / "recipes", values), [f"runtime.workdir={project / 'work'}"])
    with pytest.raises(ResourceError, match="fp8 needs a GPU that has it, and the device is cpu") as caught:
        run(recipe, until="pretrain")
    assert caught.value.exit_code == 6 and not list((project / "work").glob("stages/*"))
