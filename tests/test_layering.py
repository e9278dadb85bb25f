"""The table of rooms (docs/architecture.md): who may import whom, read from the source by its syntax tree."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import groundup

PACKAGE = Path(groundup.__file__).parent
BASE = {"config", "errors", "log", "scratch", "stage"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "log": {"errors"},
    "scratch": {"errors"},
    "locks": {"errors"},
    "sharded": {"errors"},
    "stage": {"config", "errors", "locks", "sharded"},
    "corpus": BASE,
    "tokens": BASE | {"corpus"},
    "kernels": set(),
    "models": {"config", "errors", "kernels"},
    "optim": {"config", "errors", "kernels"},
    "parallel": {"config", "errors", "sharded"},
    "inference": BASE | {"kernels", "models", "tokens", "parallel"},
    "evaluate": BASE | {"corpus", "models", "tokens", "parallel", "inference"},
    "train": BASE | {"sharded", "kernels", "tokens", "models", "optim", "parallel", "evaluate"},
    "export": BASE | {"models", "tokens", "inference", "train"},
    "report": BASE,
    "pipeline": BASE
    | {"locks", "corpus", "tokens", "models", "optim", "parallel", "inference", "evaluate", "train", "export"}
    | {"report"},
    "launcher": set(),
    "agent": {"errors", "log"},
    "torchrun": {"errors", "log", "scratch", "launcher", "agent"},
    "deployment": {"config", "errors", "pipeline"},
    "verification": {"config", "errors", "stage"},
    "doctor": {"kernels", "launcher"},
    "reference": {"config"},
    "anatomy": {"errors", "models", "export", "pipeline"},
    "talk": {"config", "errors", "log", "tokens", "inference", "export", "pipeline"},
    "inspection": {"errors", "log", "scratch", "corpus", "tokens", "pipeline"},
    "scoring": BASE | {"tokens", "models", "evaluate", "export", "pipeline", "inspection"},
    "conversion": {"errors", "corpus"},
    "compare": BASE | {"corpus", "tokens", "models", "evaluate", "export", "pipeline", "report", "talk"},
    "harness": {"errors", "models", "tokens", "inference", "evaluate", "export"},
    "cli": {"errors", "log"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Rooms in the order in which text passes through; the command reaches the others by name, so it starts at once."""
WITHOUT_TORCH = ("errors", "config", "log", "scratch", "locks", "sharded", "stage", "corpus", "report", "doctor", "cli")
HOMELESS_NAMES = ("util", "common", "helper", "manager", "misc")


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that an import statement names; relative imports are refused elsewhere."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_rooms(node: ast.AST) -> set[str]:
    return {name.split(".")[1] for name in imported(node) if name.startswith("groundup.")}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_rooms_it_may(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"{path}: '{room}' is no room of the table; give it a place in docs/architecture.md"
    for node in ast.walk(parse(path)):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}:{node.lineno}: relative import"
        forbidden = own_rooms(node) - MAY_IMPORT[room] - {room}
        assert not forbidden, f"{path}:{node.lineno}: {room} may not import {sorted(forbidden)}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_own_package_is_imported_at_the_top(path: Path) -> None:
    tree = parse(path)
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    inner = [statement for function in functions for statement in ast.walk(function) if own_rooms(statement)]
    assert not inner, f"{path}:{inner[0].lineno}: import of the own package inside a function"


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {room for room, needs in MAY_IMPORT.items() if needs <= done} - done
        assert ready, f"a cycle among {sorted(MAY_IMPORT.keys() - done)}"
        done |= ready


def test_files_and_folders_have_a_purpose_in_their_name() -> None:
    names = {part for path in sources() for part in path.relative_to(PACKAGE).with_suffix("").parts}
    homeless = [name for name in names if any(word in name.lower() for word in HOMELESS_NAMES)]
    assert not homeless, f"no home for what has none: {homeless}"


def test_only_the_command_prints() -> None:
    prints = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sources()
        if room_of(path) != "cli"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints, prints


def test_light_rooms_never_import_torch() -> None:
    modules = []
    for path in sources():
        if room_of(path) in WITHOUT_TORCH:
            assert not any(
                name.split(".")[0] == "torch" for node in ast.walk(parse(path)) for name in imported(node)
            ), path
            module = path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
            modules.append(module.removesuffix(".__init__"))
    script = f"import sys\nfor name in {modules}:\n    __import__(name)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


DANGEROUS = {
    "eval": "eval",
    "exec": "exec",
    "pickle.load": "pickle",
    "pickle.loads": "pickle",
    "yaml.unsafe_load": "yaml",
    "jinja2.Template": "jinja2 outside the sandbox",
    "jinja2.Environment": "jinja2 outside the sandbox",
}
DANGEROUS_KEYWORDS = {("shell", True), ("allow_pickle", True), ("trust_remote_code", True), ("weights_only", False)}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_in_the_source_runs_what_data_says(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        assert name not in DANGEROUS, f"{path}:{node.lineno}: {name}"
        assert name != "torch.load", f"{path}:{node.lineno}: torch.load reads pickles; use safetensors"
        keywords = {(k.arg, k.value.value) for k in node.keywords if isinstance(k.value, ast.Constant)}
        assert not keywords & DANGEROUS_KEYWORDS, f"{path}:{node.lineno}: {keywords & DANGEROUS_KEYWORDS}"
