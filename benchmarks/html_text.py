"""Main text of web pages: how much of it each extractor finds, how much else it takes, and at what speed.

    python -m benchmarks.html_text [--real FOLDER] [--rounds 3] [--seconds 3]      (make bench-html)

    pages with known text --a process a tool and round--> texts, MB/s --4-grams of tokens--> precision, recall, F1

Two sets of pages: 54 made ones (`pages.py`: nine languages, six layouts) and, with `--real`, real ones: a folder with
`ground-truth.json` ({name: {"articleBody": text}}) and `html/name.html.gz`, as in a clone of
github.com/scrapinghub/article-extraction-benchmark (181 news pages). Peers run in an environment of their own.

F1 is taken of mean precision and mean recall over pages, on 4-grams of words (of characters in Chinese, Japanese and
Thai text, which has no spaces). The headline of a page counts for nobody. MB/s are of UTF-8 markup over processor time,
decoding included where the tool does it. Writes benchmarks/results/html.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import HERE, peers_python, save, shown, spread, table
from benchmarks.pages import WORDS, Page, pages

PEERS = HERE / ".venv-html"
INSTALLS = (
    ("resiliparse>=2,<3",),  # one by one: together they stop some versions of pip, over an extra of lxml
    ("trafilatura>=2.3,<3",),
    ("lxml_html_clean",),
    ("readability-lxml>=0.8",),
    ("justext>=3",),
    ("selectolax>=0.4",),
)
TOOLS = {
    "groundup": ("trafilatura", "resiliparse"),
    "peers": ("trafilatura", "trafilatura-precision", "readability-lxml", "justext", "resiliparse", "selectolax-body"),
}
_TOKEN = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")
_GRAM = 4


def grams(text: str) -> Counter[tuple[str, ...]]:
    """How often each run of four tokens occurs; of shorter texts the text itself."""
    tokens = _TOKEN.findall(text.lower())
    count = max(1, len(tokens) - _GRAM + 1)
    return Counter(tuple(tokens[i : i + _GRAM]) for i in range(count)) if tokens else Counter()


def precision_recall(found: str, main: str) -> tuple[float, float]:
    """Shares of the found and of the wanted 4-grams that are common. Nothing found has the precision 1."""
    ours, wanted = grams(found), grams(main)
    common = (ours & wanted).total()
    return (common / ours.total() if ours else 1.0), (common / wanted.total() if wanted else 1.0)


def quality(texts: Sequence[str], wanted: Sequence[Page]) -> dict[str, float]:
    """Mean precision and recall, their F1, and pages where nothing was found."""
    pairs = [precision_recall(_without_headline(text, page), page.main) for text, page in zip(texts, wanted)]
    filled = [pair for pair, text in zip(pairs, texts) if text.strip()]
    precision = sum(pair[0] for pair in filled) / max(len(filled), 1)
    recall = sum(pair[1] for pair in pairs) / len(pairs)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"f1": f1, "precision": precision, "recall": recall, "empty": len(pairs) - len(filled)}


def _without_headline(text: str, page: Page) -> str:
    words = WORDS.get(page.language)
    lines = text.splitlines()
    return "\n".join(line for line in lines if words is None or line.strip(" #*") != words.headline)


def real_pages(folder: Path) -> list[Page]:
    """Pages of a folder in the layout of the article extraction benchmark."""
    truth = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    made = []
    for name, values in sorted(truth.items()):
        markup = gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()).decode("utf-8", "replace")
        made.append(Page(name, "", markup, values.get("articleBody", "")))
    return made


def run(tool: str, setting: str, markups: Path, seconds: float) -> dict[str, Any]:
    """The runner's JSON: `texts` and `megabytes_per_second`; `{"failed": reason}` when there is none."""
    python = sys.executable if tool == "groundup" else peers_python(PEERS, INSTALLS)
    command = [python, "-m", "benchmarks.runners.html_text", tool, setting, str(markups), str(seconds)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compare(wanted: Sequence[Page], rounds: int, seconds: float) -> dict[str, Any]:
    """{"tool: setting": quality and speed}; rounds are interleaved."""
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        markups = Path(folder) / "pages.json"
        markups.write_text(json.dumps([page.markup for page in wanted]))
        for _ in range(rounds):
            for tool, settings in TOOLS.items():
                for setting in settings:
                    rows.setdefault(f"{tool}: {setting}", []).append(run(tool, setting, markups, seconds))
    return {label: _row(runs, wanted) for label, runs in rows.items()}


def _row(runs: Sequence[Mapping[str, Any]], wanted: Sequence[Page]) -> dict[str, Any]:
    good = [one for one in runs if "failed" not in one]
    if not good:
        return {"failed": [one["failed"] for one in runs]}
    by_layout: dict[str, Any] = {}
    for group in sorted({_group(page) for page in wanted}):
        chosen = [i for i, page in enumerate(wanted) if _group(page) == group]
        by_layout[group] = quality([good[0]["texts"][i] for i in chosen], [wanted[i] for i in chosen])["f1"]
    return {
        **quality(good[0]["texts"], wanted),
        "f1_by_group": by_layout,
        "megabytes_per_second": spread(one["megabytes_per_second"] for one in good),
    }


def _group(page: Page) -> str:
    return page.name.partition("-")[0] if page.language else "real"


def shown_table(title: str, rows: Mapping[str, Any]) -> str:
    """One set of pages as Markdown."""
    lines = []
    for label, row in rows.items():
        if "failed" in row:
            lines.append([label, str(row["failed"][0]), "", "", "", ""])
            continue
        figures = [f"{row[name]:.3f}" for name in ("f1", "precision", "recall")]
        lines.append([label, *figures, str(row["empty"]), shown(row["megabytes_per_second"], ",.1f")])
    return f"{title}\n\n" + table(("extractor", "F1", "precision", "recall", "empty", "MB/s"), lines)


def main() -> None:
    """Run all, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="real pages with ground-truth.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="processor time for measuring a tool's speed")
    parser.add_argument("--name", default="html", help="results/NAME.json")
    options = parser.parse_args()
    sets = {"made": list(pages())}
    if options.real:
        sets["real"] = real_pages(options.real)
    result = {name: compare(wanted, options.rounds, options.seconds) for name, wanted in sets.items()}
    titles = {name: f"{name}: {len(wanted)} pages" for name, wanted in sets.items()}
    save(options.name, result, "\n\n".join(shown_table(titles[name], rows) for name, rows in result.items()))


if __name__ == "__main__":
    main()
