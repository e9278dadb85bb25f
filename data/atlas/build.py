"""Factbook profiles and Austen novels -> the text and the questions of the atlas recipe.

    raw/factbook.jsonl.gz  -> text/{factbook,facts}.jsonl.gz, questions/{short,long,heldout,heldout_long}.jsonl.gz
    raw/austen_*.txt.gz    -> text/austen.jsonl.gz
    raw/persuasion.txt.gz  -> test/persuasion.jsonl.gz       a test text, in the same form as the other novels
    a slice of all of them -> ../smoke/

Run ``python data/atlas/build.py``. Invariant: the output is a pure function of ``raw/`` and of ``phrasings.py`` (no
clock, no randomness but hashes of names), and no held-out question is also a training question.
"""

import argparse
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from phrasings import (
    ALIASES_BY_CODE,
    GENERAL,
    LONG_TASKS,
    NAME_BY_CODE,
    NEVER_TRAINED,
    SHORT_TASKS,
    SMOKE_CODES,
    WITH_ARTICLE,
)

Row = dict[str, Any]

HERE: Final = Path(__file__).resolve().parent
MAX_DOCUMENT_CHARS: Final = 900
LONG_ANSWER_CHARS: Final = 160
SENTENCE_CHARS: Final = 220
GENERAL_REPEATS: Final = 6
TABLE_FIELDS: Final = re.compile(
    r"HIV|ratio|Infant mortality|fertility|Contraceptive|Physicians|Hospital bed|Drinking water|Sanitation|Obesity|"
    r"underweight|School life|Unemployment|Age structure|Median age|growth rate|Birth rate|Death rate|migration rate|"
    r"Electricity|Crude oil|Refined petroleum|Natural gas - |Carbon dioxide|Stock of|Market value|Current account|"
    r"Reserves of|Debt|bank|Household income|Gini|Budget|Taxes|Manpower|Gross national saving|GDP|Labor force|"
    r"Inflation|Exchange rates|poverty|Public debt|expenditures|Telephones|Internet users|Merchant marine|Airports|"
    r"Heliports|Pipelines|Imports$|Exports$|Fiscal year|Freshwater|renewable water|Irrigated|Maritime claims|"
    r"Life expectancy|Child labor|Map references|Internet country code$|Urbanization|Diplomatic representation|"
    r"international agreements|International organization"
)
"""Fields that are tables of figures or lists of abbreviations, and left out of the text."""


def read_gzip(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode("utf-8")


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Writes one JSON object a line, gzipped without a time stamp where the name ends in .gz; returns the count."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    data = "".join(lines).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
    return len(lines)


def draw(n: int, *names: str) -> int:
    """A number below n that depends on the names only."""
    return int.from_bytes(hashlib.sha256("|".join(names).encode()).digest()[:8], "big") % n


def clean(text: str) -> str:
    """Undoes the source's layout: ``++`` separators, typographic quotes and dashes, runs of spaces, lone NA."""
    text = text.translate({0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-", 0xA0: " "})
    text = re.sub(r"\s*;?\s*\+\+\s*", "; ", text)
    text = re.sub(r"\s+", " ", text).strip(" ;")
    return "" if text in {"NA", "none", "NA%"} else text


def flatten(field: Any) -> str:
    """A field's own text, then its named parts: ``total: 643,801 sq km; land: 640,427 sq km``."""
    if not isinstance(field, dict):
        return clean(field or "")
    parts = [clean(field.get("text") or "")]
    for key, value in field.items():
        text = flatten(value) if key != "text" else ""
        if text:
            parts.append(f"{key}: {text}")
    return "; ".join(part for part in parts if part)


def value_of(profile: Row, *keys: str) -> str:
    """The text at a path of keys; where a field has only named parts, that of the first part ("" if absent)."""
    field: Any = profile
    for key in keys:
        field = field.get(key) if isinstance(field, dict) else None
    if not isinstance(field, dict):
        return ""
    if "text" in field:
        return clean(field["text"] or "")
    return next((clean(part["text"] or "") for part in field.values() if "text" in part), "")


def read_countries(path: Path) -> list[Row]:
    """The source's profiles, each with a usable name, in the order of the names."""
    countries = [json.loads(line) for line in read_gzip(path).splitlines()]
    for country in countries:
        name = NAME_BY_CODE.get(country["code"]) or country["name"]
        country["name"] = name.removeprefix("The ")
    return sorted(countries, key=lambda country: country["name"])


def named(name: str) -> str:
    """The name as it stands within a sentence."""
    return f"the {name}" if name in WITH_ARTICLE else name


def first_of(text: str, separators: str) -> str:
    """What stands before the first of the separators (a regular expression) and any bracket."""
    return re.split(rf"\s*(?:\(|{separators})", text)[0].strip()


def short_facts(profile: Row) -> dict[str, str]:
    """Task -> its exact answer, for the facts that the profile has."""
    capital = first_of(value_of(profile, "Government", "Capital", "name"), r";|: note| in Romanian")
    code = re.search(r"\.[a-z]{2}\b", value_of(profile, "Communications", "Internet country code"))
    adjective = value_of(profile, "People and Society", "Nationality", "adjective")
    government = first_of(value_of(profile, "Government", "Government type"), r"; |, | established ").removeprefix("a ")
    facts = {
        "capital": capital,
        "internet_code": code.group() if code else "",
        "nationality": first_of(adjective, r";|, | or |/"),
        "government_type": government if len(government) <= 60 else "",
    }
    return {task: answer for task, answer in facts.items() if answer}


LONG_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "location": ("Geography", "Location"),
    "climate": ("Geography", "Climate"),
    "terrain": ("Geography", "Terrain"),
    "natural_resources": ("Geography", "Natural resources"),
    "languages": ("People and Society", "Languages"),
    "religions": ("People and Society", "Religions"),
    "population": ("People and Society", "Population"),
    "independence": ("Government", "Independence"),
    "industries": ("Economy", "Industries"),
    "highest_point": ("Geography", "Elevation extremes", "highest point"),
    "borders": ("Geography", "Land boundaries", "border countries"),
    "background": ("Introduction", "Background"),
    "economy": ("Economy", "Economy - overview"),
    "disputes": ("Transnational Issues", "Disputes - international"),
}


def trim(text: str, limit: int) -> str:
    """The text without notes and years of estimate, cut at the last sentence, clause or item within the limit."""
    text = re.split(r"[;:]? ?\bnote ?[-:]", text)[0]
    text = re.sub(r"\s*\([^()]*\b(?:est\.|census|Census)\)", "", text).strip(" ;,")
    if len(text) <= limit:
        return text
    for separator in (". ", "; ", ", ", " "):
        end = text.rfind(separator, 30, limit)
        if end > 0:
            return text[: end + (separator == ". ")].rstrip(" ;,")
    return text[:limit]


def first_sentence(text: str) -> str:
    """The first sentence, or "" where it is too long to be an answer."""
    sentence = re.split(r"(?<=[a-z0-9)%]\.) (?=[A-Z])|(?<=[a-z0-9)]); ", text)[0].strip()
    return sentence if len(sentence) <= SENTENCE_CHARS else ""


def long_facts(profile: Row) -> dict[str, str]:
    """Task -> an answer of at most a sentence, for the fields that the profile has."""
    facts = {}
    for task, keys in LONG_FIELDS.items():
        text = value_of(profile, *keys)
        if task in {"background", "economy", "disputes"}:
            facts[task] = first_sentence(text)
        elif task == "population":
            facts[task] = next(iter(re.findall(r"^\d[\d,]*", text)), "")
        else:
            facts[task] = trim(text, LONG_ANSWER_CHARS)
    return {task: answer for task, answer in facts.items() if answer and not answer.startswith("none")}


def key_facts(name: str, profile: Row) -> str:
    """A country's short facts as one paragraph, its name in every sentence."""
    labels = {
        "capital": "The capital of {c} is {a}.",
        "government_type": "The government type of {c} is {a}.",
        "nationality": "The nationality adjective of {c} is {a}.",
        "internet_code": "The internet country code of {c} is {a}.",
    }
    facts = short_facts(profile)
    lines = [text.format(c=named(name), a=facts[task]) for task, text in labels.items() if task in facts]
    location = trim(value_of(profile, "Geography", "Location"), LONG_ANSWER_CHARS)
    return " ".join([f"{name} is located in {location}."] * bool(location) + lines)


def pieces(text: str, limit: int) -> Iterator[str]:
    """Cuts a long value after sentences, or else clauses, into pieces of at most about the limit."""
    while len(text) > limit:
        ends = [text.rfind(mark, limit // 3, limit) for mark in (". ", "; ", ", ", " ")]
        end = next((end for end in ends if end > 0), limit)
        yield text[: end + 1].strip()
        text = text[end + 1 :].strip()
    yield text


def section_documents(name: str, section: str, fields: Row) -> Iterator[str]:
    """One section as documents that each fit a model's context and start with the country and the section."""
    title = f"{name}: {section}\n\n"
    body = ""
    for field, value in fields.items():
        text = "" if TABLE_FIELDS.search(field) else flatten(value)
        label = "" if field in {"Background", "Economy - overview"} else f"{field} of {named(name)}: "
        for piece in pieces(text, MAX_DOCUMENT_CHARS - 100):
            if body and len(body) + len(piece) > MAX_DOCUMENT_CHARS:
                yield title + body.strip()
                body = ""
            body += f"{label}{piece}\n" if piece else ""
    if body:
        yield title + body.strip()


def factbook_documents(countries: list[Row]) -> Iterator[Row]:
    for country in countries:
        name, code = country["name"], country["code"]
        for section, fields in country["profile"].items():
            slug = section.lower().replace(" ", "-")
            for i, text in enumerate(section_documents(name, section, fields)):
                yield {"id": f"factbook/{code}/{slug}/{i}", "text": text}


def fact_documents(countries: list[Row]) -> Iterator[Row]:
    """One short document a country with its key facts; a source of its own, so that a recipe can weigh it."""
    for country in countries:
        name, facts = country["name"], key_facts(country["name"], country["profile"])
        if facts:
            yield {"id": f"factbook/{country['code']}/facts", "text": f"{name}: Key facts\n\n{facts}"}


def chapters(novel: str) -> list[str]:
    """A novel's chapters as paragraphs on one line each; title, volume headings and closing words are dropped."""
    parts = re.split(r"(?mi)^ *chapter +(?:[ivxl]+|\d+)\.? *$", novel)[1:]
    texts = []
    for part in parts:
        part = re.split(r"(?m)^ *(?:FINIS|Finis|THE END|A NOTE ON THE TEXT) *$", part)[0]
        part = re.sub(r"(?m)^ *VOLUME [IVX]+ *$", "", part)
        paragraphs = [" ".join(block.split()) for block in re.split(r"\n\s*\n", part)]
        texts.append("\n\n".join(paragraph for paragraph in paragraphs if paragraph))
    return texts


def novel_documents(paths: Iterable[Path]) -> Iterator[Row]:
    for path in sorted(paths):
        novel = path.name.removeprefix("austen_").removesuffix(".txt.gz")
        for i, text in enumerate(chapters(read_gzip(path)), 1):
            yield {"id": f"austen/{novel}/{i:02d}", "text": text}


def conversation(question: str, answer: str, **about: str) -> Row:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, **about}


def ask(template: str, name: str, article: bool = True) -> str:
    """The question for a country; a name at the start, or one before a colon, is written accordingly."""
    inner = named(name) if article and "{c}:" not in template else name
    question = template.format(c=inner)
    return question[0].upper() + question[1:]


def casual(question: str) -> str:
    """The question as typed in haste: lower case, no mark at the end."""
    return question.lower().rstrip("?.")


def vary(template: str, name: str) -> str:
    """The question, in about a quarter of the cases typed in haste, in some without the article."""
    question = ask(template, name, article=draw(4, "article", template, name) > 0)
    return casual(question) if draw(4, "case", template, name) == 0 else question


def short_questions(country: Row) -> Iterator[Row]:
    """All phrasings of the short facts; one per fact, drawn by its name, is held out under every spelling."""
    name = country["name"]
    for task, answer in short_facts(country["profile"]).items():
        templates = SHORT_TASKS[task]
        held_out = templates[draw(len(templates), "held out", name, task)]
        yield conversation(ask(held_out, name), answer, task=task, country=name, kind="phrasing")
        yield conversation(ask(NEVER_TRAINED[task], name), answer, task=task, country=name, kind="template")
        trained = [template for template in templates if template != held_out]
        for template in trained:
            yield conversation(vary(template, name), answer, task=task, country=name)
        for alias in ALIASES_BY_CODE.get(country["code"], ()):
            for template in trained[:4]:
                yield conversation(vary(template, alias), answer, task=task, country=name)


def long_questions(country: Row) -> Iterator[Row]:
    """Two phrasings of each longer fact; for one fact in twelve the third is held out."""
    name = country["name"]
    for task, answer in long_facts(country["profile"]).items():
        templates = LONG_TASKS[task]
        first = draw(len(templates), "long", name, task)
        rotated = templates[first:] + templates[:first]
        for template in rotated[:2]:
            yield conversation(vary(template, name), answer, task=task, country=name)
        if draw(12, "long held out", name, task) == 0:
            yield conversation(ask(rotated[2], name), answer, task=task, country=name, kind="long")


def general_questions() -> Iterator[Row]:
    for question, answer in GENERAL:
        for spelling in (question, casual(question).rstrip("!")) * (GENERAL_REPEATS // 2):
            yield conversation(spelling, answer, task="general", country="")


def questions(countries: list[Row]) -> tuple[list[Row], list[Row]]:
    """Training and held-out conversations, each in an order that mixes countries and tasks."""
    rows = [row for country in countries for row in (*short_questions(country), *long_questions(country))]
    train = [row for row in rows if "kind" not in row] + list(general_questions())
    held_out = [row for row in rows if "kind" in row]
    return shuffled(train), shuffled(held_out)


def shuffled(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (draw(1 << 60, row["messages"][0]["content"]), json.dumps(row)))


def build_atlas(raw: Path, out: Path) -> dict[str, int]:
    countries = read_countries(raw / "factbook.jsonl.gz")
    train, held_out = questions(countries)
    return {
        "text/factbook": write_rows(out / "text/factbook.jsonl.gz", factbook_documents(countries)),
        "text/facts": write_rows(out / "text/facts.jsonl.gz", fact_documents(countries)),
        "text/austen": write_rows(out / "text/austen.jsonl.gz", novel_documents(raw.glob("austen_*.txt.gz"))),
        "test/persuasion": write_rows(out / "test/persuasion.jsonl.gz", novel_documents([raw / "persuasion.txt.gz"])),
        "questions/short": write_rows(
            out / "questions/short.jsonl.gz", (r for r in train if r["task"] not in LONG_TASKS)
        ),
        "questions/long": write_rows(out / "questions/long.jsonl.gz", (r for r in train if r["task"] in LONG_TASKS)),
        "questions/heldout": write_rows(
            out / "questions/heldout.jsonl.gz", (r for r in held_out if r["kind"] != "long")
        ),
        "questions/heldout_long": write_rows(
            out / "questions/heldout_long.jsonl.gz", (r for r in held_out if r["kind"] == "long")
        ),
    }


def build_smoke(raw: Path, out: Path) -> dict[str, int]:
    """The same, small: twenty countries, their first documents, short facts only, two chapters of one novel."""
    countries = [c for c in read_countries(raw / "factbook.jsonl.gz") if c["code"] in SMOKE_CODES]
    kept = re.compile(r"/(?:introduction|geography|government)/0$")
    documents = [document for document in factbook_documents(countries) if kept.search(document["id"])]
    documents += fact_documents(countries)
    train, held_out = questions(countries)
    novel = "\n\n".join(chapters(read_gzip(raw / "austen_northanger_abbey.txt.gz"))[:2])
    counts = {
        "smoke/text": write_rows(out / "text/factbook.jsonl", documents),
        "smoke/train": write_rows(out / "questions/train.jsonl", (r for r in train if r["task"] not in LONG_TASKS)),
        "smoke/heldout": write_rows(out / "questions/heldout.jsonl", (r for r in held_out if r["kind"] == "phrasing")),
    }
    (out / "text/austen.txt").write_text(novel + "\n", encoding="utf-8")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the text and the questions of the atlas and smoke recipes.")
    parser.add_argument("--out", type=Path, default=HERE.parent, help="folder that gets atlas/ and smoke/")
    out = parser.parse_args().out
    counts = build_atlas(HERE / "raw", out / "atlas") | build_smoke(HERE / "raw", out / "smoke")
    for name, count in counts.items():
        print(f"{name}: {count}")


if __name__ == "__main__":
    main()
