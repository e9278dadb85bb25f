"""Runs on the same text side by side: whatever kind of model, by the bits that a byte of held-out text costs it.

    runs/*/stages.json --same corpus stage, evaluated--> one row each, best first, this run marked

Bits per byte do not depend on the tokenizer, so a decoder, an LSTM and an encoder share the table; an encoder sees the
text around each gap, so its figure is a pseudo-likelihood, and says so.
Invariant: as in `data`, whatever the files hold gives a page; without another such run there is no table.
"""

from __future__ import annotations

from typing import Any

from groundup.report import words
from groundup.report.facts import PHASES, Facts, collect, with_error
from groundup.report.plain import mapping
from groundup.report.read import RunFiles, read_results
from groundup.report.words import number

METRIC = "bits_per_byte"
TEXTS = 4
ROWS = 40
SIBLINGS = 1000
"""Folders beside the run that are looked into, at most, in the order of their names."""


def comparison(run: RunFiles, facts: Facts) -> dict[str, Any]:
    """Texts as columns and a row for each evaluated run on the same corpus stage; no rows when this is the only one."""
    found = [(other, collect(other)) for other in _siblings(run)] if _corpus(run) and facts.final else []
    same = [(other, figures) for other, figures in found if _corpus(other) == _corpus(run) and METRIC in figures.final]
    if not same or METRIC not in facts.final:
        return {"texts": [], "rows": [], "more": 0, "pseudo": False}
    texts = _texts(facts)
    ordered = sorted([(run, facts), *same], key=lambda pair: (_bits(pair[1]), pair[0].name))
    shown = [pair for index, pair in enumerate(ordered) if index < ROWS or pair[0] is run]
    return {
        "texts": [text.removeprefix("test/") for text in texts],
        "rows": [_row(other, figures, texts, other is run) for other, figures in shown],
        "more": len(ordered) - len(shown),
        "pseudo": any(_is_pseudo(other) for other, _ in shown),
    }


def _siblings(run: RunFiles) -> list[RunFiles]:
    """The other runs of this work folder, as far as they are there to be read."""
    own = run.folder.resolve()
    try:
        folders = sorted(path for path in own.parent.iterdir() if path != own)[:SIBLINGS]
        return [read_results(path) for path in folders if (path / "stages.json").is_file()]
    except OSError:
        return []


def _corpus(run: RunFiles) -> str:
    """Fingerprint of the finished corpus stage, which holds the held-out texts too; "" where there is none."""
    stage = run.stage("corpus")
    return stage.fingerprint if stage is not None and stage.state == "done" else ""


def _texts(facts: Facts) -> list[str]:
    """All validation text (or what stands for it), then the test texts."""
    named = [name.partition("/")[2] for name in facts.final if name.startswith(METRIC + "/")]
    tests = [name for name in named if name.startswith("test/")]
    return ([name for name in named if name not in tests][:1] + tests)[:TEXTS]


def _bits(facts: Facts) -> float:
    return number(facts.final[METRIC].get("value")) or 0.0


def _is_pseudo(run: RunFiles) -> bool:
    return mapping(run.recipe.get("model")).get("kind") == "encoder"


def _row(run: RunFiles, facts: Facts, texts: list[str], is_own: bool) -> dict[str, Any]:
    model = mapping(run.recipe.get("model"))
    seconds = [facts.seconds[phase] for phase in PHASES if phase in facts.seconds]
    sizes = [f"{words.exact(model.get(key))} {word}" for key, word in _SIZES if number(model.get(key)) is not None]
    return {
        "name": run.name,
        "own": is_own,
        "kind": str(model.get("kind", words.MISSING)),
        "sizes": ", ".join(sizes),
        "parameters": words.compact(facts.parameters),
        "tokens": words.compact(sum(facts.tokens.values()) or None),
        "seconds": words.duration(sum(seconds) if seconds else None),
        "values": [_value(run, facts, text) for text in texts],
        "measured": words.size(facts.final[METRIC].get("n")),
    }


_SIZES = (("num_layers", "layers"), ("hidden_size", "wide"))


def _value(run: RunFiles, facts: Facts, text: str) -> str:
    entry = facts.final.get(f"{METRIC}/{text}")
    if entry is None:
        return words.MISSING
    return with_error(METRIC, entry) + (" *" if _is_pseudo(run) else "")
