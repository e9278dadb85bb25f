"""`import groundup`: the names other programs use, each there, none of them paid for before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import groundup

PUBLIC = [
    *(
        "Recipe",
        "RunResult",
        "build_report",
        "import_model",
        "instruct",
        "load_model",
        "load_recipe",
        "prepare",
        "pretrain",
    ),
    *("run", "save_model", "status", "verify"),
]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_exported_names_are_these() -> None:
    assert sorted(groundup.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(groundup))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_leads_to_something_documented(name: str) -> None:
    found = getattr(groundup, name)
    assert callable(found)
    assert found.__doc__
    assert found.__module__.startswith("groundup.")


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'lode_model'; it has .*load_model"):
        groundup.lode_model  # noqa: B018 - the access is what is tested


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pydantic", "tokenizers", "yaml", "pyarrow", "transformers")
    code = f"import sys, groundup; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]"


def test_listing_its_names_loads_nothing_either() -> None:
    assert run_python("import sys, groundup; dir(groundup); print('torch' in sys.modules)") == "False"


def test_importing_it_takes_no_time_worth_naming() -> None:
    code = "import time; start = time.process_time(); import groundup; print(time.process_time() - start)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.1
