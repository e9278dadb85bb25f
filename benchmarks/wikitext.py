"""Wikipedia extraction beside gensim and mwparserfromhell: megabytes a second and core, and what the text is like.

    python -m benchmarks.wikitext [--dump FILE.xml.bz2] [--megabytes 20] [--repeats 5]       (make bench-wikitext)

    dump (made by `wikidump.py`, or given) --one process per tool and repetition, interleaved--> MB/s of processor time
    articles with a text written by hand (tests/data/wiki)  --each tool--> what is lost, what is left of the markup

`text` is wikitext to text alone; `dump` is the packed file to text, decompression and XML included. gensim's
`WikiCorpus.get_texts` is `filter_wiki` and a tokenizer that keeps words of 2 to 15 letters; both are shown.
Writes benchmarks/results/wikitext.json, and wikitext.md with all texts side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import harness, wikidump

ARTICLES = Path(__file__).resolve().parents[1] / "tests" / "data" / "wiki"
PEERS = harness.HERE / ".venv-wikitext"
INSTALLS = (("gensim>=4.3,<5", "mwparserfromhell>=0.7,<0.8"),)
TOOLS = ("groundup", "gensim: filter_wiki", "gensim: get_texts", "mwparserfromhell")
SHOWN = ("groundup", "gensim: filter_wiki", "mwparserfromhell")
WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W_぀-ヿ㐀-鿿]+")
"""A word, or one character where words are not parted by blanks."""
DEBRIS = re.compile(
    r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}|'''?|<[a-zA-Z/!][^<>\n]*>|&[a-z]+;"
    r"|\( ?[,;:]? ?\)|（[，；、]?）|(?<=\w) ,|(?<=\S)  (?=\S)"
)
"""What a reader stumbles over: markup, empty parentheses, blanks before a comma or two in a row."""


def run(job: Mapping[str, Any], peers: str) -> dict[str, Any]:
    """What the runner prints, with `foreign_cores`. Raises SystemExit with its last words when it fails."""
    python = sys.executable if job["tool"] == "groundup" else peers
    command = [python, "-m", "benchmarks.runners.wiki", json.dumps(job)]
    busy, own = harness.busy_seconds(), harness.own_seconds()
    done = subprocess.run(command, cwd=harness.HERE.parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{job['tool']} failed: {done.stderr.strip()[-500:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    foreign = harness.busy_seconds() - busy - (harness.own_seconds() - own)
    return {**result, "foreign_seconds": max(0.0, foreign)} if "seconds" in result else result


def speed(dump: Path, repeats: int, peers: str) -> dict[str, Any]:
    """Megabytes a second of each tool for `text` and `dump`, and how many times Groundup is faster, round by round."""
    made: dict[str, Any] = {}
    for what in ("text", "dump"):
        runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in TOOLS}
        for _ in range(repeats):
            for tool in TOOLS:
                runs[tool].append(run({"tool": tool, "what": what, "dump": str(dump)}, peers))
        rates = {tool: [found["bytes"] / 1e6 / found["seconds"] for found in runs[tool]] for tool in TOOLS}
        made[what] = {
            tool: {
                "megabytes_per_second": harness.spread(rates[tool]),
                "times_faster_is_groundup": harness.ratios(rates["groundup"], rates[tool]),
                "megabytes_in": runs[tool][0]["bytes"] / 1e6,
                "characters_out": runs[tool][0]["characters_out"],
                "foreign_seconds": sum(found["foreign_seconds"] for found in runs[tool]),
            }
            for tool in TOOLS
        }
    return made


def quality(peers: str, target: Path) -> dict[str, Any]:
    """Against the texts written by hand: share of words kept, share of words that belong, places to stumble over."""
    names = sorted(path.stem for path in ARTICLES.glob("*.wikitext"))
    sources = {name: (ARTICLES / f"{name}.wikitext").read_text(encoding="utf-8") for name in names}
    expected = {name: (ARTICLES / f"{name}.txt").read_text(encoding="utf-8").strip() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "articles.json"
        listed.write_text(json.dumps(sources), encoding="utf-8")
        texts = {tool: run({"tool": tool, "what": "show", "articles": str(listed)}, peers) for tool in SHOWN}
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(side_by_side(name, sources, expected, texts) for name in names), encoding="utf-8")
    return {tool: judged(expected, texts[tool]) for tool in SHOWN}


def judged(expected: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, Any]:
    """Words are compared as bags, article by article, and the counts added up."""
    wanted = got = common = debris = 0
    for name, text in expected.items():
        hoped, found = Counter(WORD.findall(text)), Counter(WORD.findall(texts[name]))
        wanted, got, common = wanted + hoped.total(), got + found.total(), common + (hoped & found).total()
        debris += len(DEBRIS.findall(texts[name])) - len(DEBRIS.findall(text))
    return {
        "words_kept": common / wanted,
        "words_that_belong": common / max(got, 1),
        "f1": 2 * common / (wanted + got),
        "stumbling_places": debris,
        "same_as_by_hand": sum(texts[name].strip() == text for name, text in expected.items()),
        "articles": len(expected),
    }


def side_by_side(
    name: str, sources: Mapping[str, str], expected: Mapping[str, str], texts: Mapping[str, Mapping[str, str]]
) -> str:
    """One article: markup, text by hand, each tool's text, and the words that each lost or added."""
    parts = [f"# {name}\n\n````text\n{sources[name]}````\n\n## by hand\n\n````text\n{expected[name]}\n````\n"]
    hoped = Counter(WORD.findall(expected[name]))
    for tool in SHOWN:
        found = Counter(WORD.findall(texts[tool][name]))
        lost, added = " ".join((hoped - found).elements()), " ".join((found - hoped).elements())
        text = texts[tool][name].strip()
        parts.append(f"## {tool}\n\nLost: {lost or '-'}\n\nAdded: {added or '-'}\n\n````text\n{text}\n````\n")
    return "\n".join(parts)


def report(result: Mapping[str, Any]) -> str:
    """The tables."""
    parts = []
    for what, tools in result["speed"].items():
        rows = [
            (
                tool,
                harness.shown(found["megabytes_per_second"], ".1f"),
                harness.shown(found["times_faster_is_groundup"], ".2f"),
            )
            for tool, found in tools.items()
        ]
        parts.append(harness.table((what, "MB/s a core", "Groundup is faster, times"), rows))
    rows = [
        (
            tool,
            *(f"{100 * found[key]:.1f} %" for key in ("words_kept", "words_that_belong")),
            str(found["stumbling_places"]),
        )
        for tool, found in result["quality"].items()
    ]
    parts.append(
        harness.table(("text against that by hand", "words kept", "words that belong", "places to stumble"), rows)
    )
    return "\n\n".join(parts)


def main() -> None:
    """Make or take the dump, run all tools, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump", type=Path, help="a .xml.bz2 to read instead of a made one")
    parser.add_argument("--megabytes", type=float, default=20, help="XML of the made dump (default 20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers-python", help="an environment that has gensim and mwparserfromhell")
    parser.add_argument("--name", default="wikitext")
    options = parser.parse_args()
    peers = options.peers_python or harness.peers_python(PEERS, INSTALLS)
    found = quality(peers, harness.RESULTS / f"{options.name}.md")
    with tempfile.TemporaryDirectory() as folder:
        dump = options.dump or Path(folder) / "made.xml.bz2"
        if not options.dump:
            wikidump.write(dump, options.megabytes, options.seed)
        rates = speed(dump.resolve(), options.repeats, peers)
    best = min(
        (rates["dump"][tool]["times_faster_is_groundup"] for tool in TOOLS[1:]), key=lambda ratio: ratio["median"]
    )
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "setting": {
            "dump": options.dump.name if options.dump else f"made, {options.megabytes} MB, seed {options.seed}"
        },
        "speed": rates,
        "quality": found,
        "ratio_to_best_peer": best,
    }
    harness.save(options.name, result, report(result))


if __name__ == "__main__":
    main()
