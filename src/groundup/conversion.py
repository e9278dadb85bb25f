"""Public data in forms that no mapping of fields can say -> JSON lines that `instruct` and `evaluate.tasks` read.

    squad      articles of paragraphs of questions (SQuAD, CMRC 2018, DRCD), nested or flat -> a record per question
    parallel   two text files, line by line the same in two languages (Moses, OPUS) -> a record per pair
    dialogues  turns of speakers (MultiWOZ and the like) -> messages; or a record per turn of the assistant

Invariant: total = accepted + rejected, each with its reason; the output appears whole or not at all.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import Reading
from groundup.corpus.reading.records import Row
from groundup.corpus.reading.sources import RecordSourceConfig
from groundup.errors import DataError, RecipeError, resource_errors

SPEAKERS: Mapping[str, str] = {
    **dict.fromkeys(("user", "human", "usr", "customer", "client"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "system", "sys", "agent", "wizard", "operator"), "assistant"),
}
"""Who speaks in public dialogues, letter case aside; there the system is the one that answers."""
Record = dict[str, Any]


@dataclass
class Account:
    """What became of the records."""

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """total = accepted + the sum of rejected."""
        total = self.accepted + self.rejected.total()
        return {"total": total, "accepted": self.accepted, "rejected": dict(sorted(self.rejected.items()))}


@dataclass(frozen=True)
class Options:
    """What some forms may be told."""

    turns: bool = False
    """`dialogues`: a record per turn of the assistant, with what was said before as `history`."""
    no_answer: str = ""
    """`squad`: what the answer is where there is none; empty: such questions are left out and counted."""


def convert(form: str, inputs: Sequence[str], output: str, options: Options | None = None) -> Account:
    """Write `output` (compressed when it ends in .gz). Raises RecipeError, or DataError when there is nothing in it."""
    if form not in FORMS:
        raise RecipeError(f"'{form[:30]}' is no form that convert knows; forms: {', '.join(FORMS)}")
    account, path = Account(), Path(output)
    if not path.parent.is_dir():
        raise DataError(f"{str(path.parent)[-80:]}: no such folder; make it, or name another file to write")
    part = path.with_name(f"{path.name}.part")
    with resource_errors(path.parent):
        try:
            with _opened(part, path.suffix == ".gz") as handle:
                for record in FORMS[form](inputs, account, options or Options()):
                    handle.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
                    account.accepted += 1
            if not account.accepted:
                reasons = ", ".join(f"{reason} ({count})" for reason, count in account.rejected.most_common(2))
                raise DataError(f"convert {form}: nothing in {inputs[0][-50:]} can be used: {reasons or 'it is empty'}")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return account


def _opened(path: Path, compressed: bool) -> IO[bytes]:
    return gzip.open(path, "wb") if compressed else path.open("wb")  # type: ignore[return-value]


def _records(inputs: Sequence[str], keys: tuple[str, ...], account: Account) -> Iterator[Mapping[str, Any]]:
    """Every record of every file."""
    for path in inputs:
        source = RecordSourceConfig(name="convert", path=path, known_keys=keys)
        for file in find_files(path, Path.cwd()).files:
            for row in Reading(file, source, Path(tempfile.gettempdir())).rows():
                if isinstance(row, Row):
                    yield row.values
                else:
                    account.rejected[row.reason] += row.records


def squad(inputs: Sequence[str], account: Account, options: Options) -> Iterator[Record]:
    """Questions with their passage: `id`, `context`, `question`, `answers` (all of them), `answer` (the first), and
    `spans`, where they stand, as a task of spans reads them.
    """
    for values in _records(inputs, ("paragraphs", "context", "context_text"), account):
        for passage in _list(values, "paragraphs") if "paragraphs" in values else [values]:
            context = passage.get("context", passage.get("context_text"))
            for asked in _list(passage, "qas") if "qas" in passage else [passage]:
                record = _question(context, asked, options.no_answer)
                if isinstance(record, str):
                    account.rejected[record] += 1
                else:
                    yield record


def _question(context: Any, asked: Mapping[str, Any], no_answer: str) -> Record | str:
    """The record of a question, or why there is none."""
    question = asked.get("question", asked.get("query_text"))
    if not isinstance(context, str) or not isinstance(question, str) or not question.strip():
        return "a question without text or passage"
    found = _answers(asked.get("answers"))
    answers = list(dict.fromkeys(text for text, _ in found))
    if not answers and not no_answer:
        return "no answer (say --no-answer TEXT to keep such questions)"
    answers = answers or [no_answer]
    id, spans = str(asked.get("id", asked.get("query_id", ""))), _spans(found, context)
    record = {"id": id, "context": context, "question": question, "answers": answers, "answer": answers[0]}
    return {**record, "spans": {"text": [text for text, _ in spans], "answer_start": [start for _, start in spans]}}


def _answers(found: Any) -> list[tuple[str, Any]]:
    """Answers that are no empty text, each with where it starts, as far as that is said."""
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        starts = found.get("answer_start")
        pairs = list(zip_longest(found["text"], starts if isinstance(starts, list) else ()))
    else:
        listed = found if isinstance(found, list) else [found]
        each = (one if isinstance(one, Mapping) else {"text": one} for one in listed)
        pairs = [(one.get("text"), one.get("answer_start")) for one in each]
    return [(text, start) for text, start in pairs if isinstance(text, str) and text.strip()]


def _spans(found: Sequence[tuple[str, Any]], context: str) -> list[tuple[str, int]]:
    """The answers that stand in the passage, each once; one of which the place is not said, or wrong, where it stands
    first.
    """
    spans = []
    for text, start in found:
        stands = type(start) is int and start >= 0 and context.startswith(text, start)
        spans.append((text, start if stands else context.find(text)))
    return [(text, start) for text, start in dict.fromkeys(spans) if start >= 0]


def parallel(inputs: Sequence[str], account: Account, options: Options) -> Iterator[Record]:
    """Pairs of lines under the endings of the files' names: corpus.en and corpus.zh give `en` and `zh`."""
    if len(inputs) != 2:
        raise RecipeError(f"convert parallel: two files belong together, {len(inputs)} given; name both and the output")
    names = [Path(path.removesuffix(".gz")).suffix[1:] or Path(path).name for path in inputs]
    if names[0] == names[1]:
        raise RecipeError(
            f"convert parallel: both files end in .{names[0]}; name them by language, such as x.en and x.zh"
        )
    for number, lines in enumerate(zip_longest(*map(_lines, inputs)), start=1):
        if None in lines:
            raise DataError(
                f"convert parallel: {inputs[lines.index(None)][-60:]} ends at line {number}, the other goes on"
            )
        if all(line.strip() for line in lines):
            yield dict(zip(names, (line.strip() for line in lines)))
        else:
            account.rejected["an empty line on one side"] += 1


def _lines(path: str) -> Iterator[str]:
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise DataError(f"{path[-60:]}: line {number} is not UTF-8; convert the file first") from None
    except OSError as error:
        raise DataError(f"{path[-90:]}: cannot be read ({error.strerror or error}); check the path") from None


def dialogues(inputs: Sequence[str], account: Account, options: Options) -> Iterator[Record]:
    """Conversations as `messages`; with `turns` a record per answer: `history`, `reference`, `messages`."""
    for values in _records(inputs, ("messages", "conversations", "turns", "log", "dialogue"), account):
        messages = _messages(values)
        if isinstance(messages, str):
            account.rejected[messages] += 1
        elif not options.turns:
            yield {"messages": messages}
        else:
            for end, message in enumerate(messages):
                if message["role"] == "assistant" and end:
                    yield {"history": messages[:end], "reference": message["content"], "messages": messages[: end + 1]}


def _messages(values: Mapping[str, Any]) -> list[dict[str, str]] | str:
    """The turns of a dialogue under the usual names, up to the last answer; or why there are none."""
    turns = next(
        (values[key] for key in ("messages", "conversations", "turns", "log", "dialogue") if key in values), None
    )
    if not isinstance(turns, list):
        return "no list of turns"
    messages: list[dict[str, str]] = []
    for place, turn in enumerate(turns):
        given = turn if isinstance(turn, Mapping) else {"text": turn}
        text = next((given[key] for key in ("content", "value", "utterance", "text") if key in given), None)
        # Where nobody is named, user and assistant take turns, as in MultiWOZ 2.1.
        speaker = next((given[key] for key in ("role", "from", "speaker") if key in given), ("user", "bot")[place % 2])
        if not isinstance(text, str) or not text.strip():
            return "a turn without text"
        role = SPEAKERS.get(str(speaker).lower())
        if "role" in given and speaker == "system" and not messages:
            role = "system"
        if role is None:
            return f"a speaker that is not known: {str(speaker)[:20]}"
        messages.append({"role": role, "content": text.strip()})
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    return messages or "no answer in it"


def _list(values: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = values.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


FORMS: Mapping[str, Callable[[Sequence[str], Account, Options], Iterator[Record]]] = {
    "squad": squad,
    "parallel": parallel,
    "dialogues": dialogues,
}
"""What `groundup convert` knows."""
