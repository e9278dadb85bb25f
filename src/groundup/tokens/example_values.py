"""Values of labelled records -> texts, labels, numbers, words and answers; Refused where one is none.

    "pos", 1, 1.0, true    label    "pos", "1", "1", "true"
    ["a", "b"], "a b", '["a", "b"]'    words    ("a", "b")         a table's cell may hold a list, as JSON or Python
    ["a", 7], "a|7", "['a', 7]", ""    labels of a text    ("a", "7"), ...    [0.0, 1.0], [false, true] of named ones

Invariant: what is accepted can be encoded as UTF-8.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from groundup.tokens.record_reading import Refused

LARGEST_NUMBER = 1e30
_ITEM = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?[0-9]+""")
_LIST = re.compile(rf"\[\s*(?:{_ITEM.pattern})(?:(?:\s*,\s*|\s+)(?:{_ITEM.pattern}))*\s*,?\s*\]")


def text_of(value: Any, field: str) -> str:
    """A text that is not empty."""
    value = _decoded(value)
    if not isinstance(value, str):
        raise Refused(f"field '{field}' is no text")
    if not value.strip():
        raise Refused(f"field '{field}' is empty")
    return _encodable(value)


def _decoded(value: Any) -> Any:
    """Bytes as the text that they are: Parquet files of some writers do not tell these apart."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refused("bytes that are not UTF-8 text") from None


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("lone surrogate (no character)") from None
    return value


def label_of(value: Any) -> str:
    """A label as text: strings, whole numbers (1.0 is 1) and true or false; anything else is none."""
    value = _decoded(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, str) and value.strip():
        return _encodable(value.strip())
    if isinstance(value, float) and not math.isnan(value):
        raise Refused("label is a number with decimals; set kind: number")
    missing = value is None or isinstance(value, str | float)
    raise Refused("no label" if missing else f"label is a {type(value).__name__}")


def is_whole(label: str) -> bool:
    """Whether a label is written as a whole number."""
    return label.removeprefix("-").isdecimal()


def labels_of_text(value: Any, names: Sequence[str] = ()) -> tuple[str, ...]:
    """All labels of a text: a list of them, or one written out in a table's cell; or a 0 or 1 for each of `names`.

    A cell that is one of the names, or has none of | ; , in it, is one label; an empty one is none. Raises Refused.
    """
    value = _decoded(value)
    if isinstance(value, str):
        value = _cut_labels(value.strip(), names)
    elif type(value) is int:
        value = [value]
    if not isinstance(value, list):
        raise Refused("no label" if value is None else f"labels are a {type(value).__name__}, no list")
    if not value or not all(isinstance(each, float | bool) for each in value):
        return tuple(label_of(each) for each in value)
    if any(each not in (0, 1) for each in value):
        raise Refused("labels are numbers with decimals")
    if len(value) != len(names):
        raise Refused(f"a 0 or 1 for each of {len(value)} labels: name so many in task.labels")
    return tuple(name for name, is_one in zip(names, value) if is_one)


def _cut_labels(text: str, names: Sequence[str]) -> list[Any]:
    """The labels in a table's cell."""
    if text in names or not text:
        return [text] if text else []
    if text.startswith("["):
        found = _written_list(text)
        if found is None:
            raise Refused("labels are a list that is neither JSON nor Python")
        return found
    mark = next((mark for mark in "|;," if mark in text), None)
    if mark is not None:
        return [each.strip() for each in text.split(mark)]
    words = text.split()
    return words if all(map(is_whole, words)) else [text]


def number_of(value: Any) -> float:
    """A finite number, or a text that is one."""
    try:
        usable = isinstance(value, str | int | float | Decimal) and not isinstance(value, bool)
        number = float(value) if usable else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > LARGEST_NUMBER:
        raise Refused("label is no finite number")
    return number


def words_of(value: Any, what: str) -> tuple[str, ...]:
    """Words or labels: a list, a list that is written out in a table's cell, or a text with white space between."""
    values = _listed(value) if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise Refused(f"{what} is no list of words")
    found = tuple(str(each) if type(each) is int else each for each in values)
    if not all(isinstance(each, str) and each.strip() for each in found):
        raise Refused(f"{what} holds something that is no word")
    return tuple(_encodable(each) for each in found)


def _listed(text: str) -> list[Any]:
    """The items of a list that is written out; of another text its words."""
    found = _written_list(text.strip())
    return text.split() if found is None else found


def _written_list(text: str) -> list[Any] | None:
    """The items of a list as JSON, Python or NumPy write it (which puts no commas); None: the text is none."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):
        return found
    return [_literal(item[0]) for item in _ITEM.finditer(text)] if _LIST.fullmatch(text) else None


def _literal(text: str) -> Any:
    """What a text means in Python, if it is a plain value; else the text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash that begins no escape
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _object(text: str) -> Any:
    """A cell of a table, which holds an object or a list as JSON, or as Python writes it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _literal(text.strip())


def answers_of(value: Any, text: str) -> tuple[tuple[str, int], ...]:
    """Answers as SQuAD has them, {text: [...], answer_start: [...]} or a list of {text, answer_start}."""
    value = _object(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise Refused("answers have no equally long text and answer_start")
        pairs = list(zip(texts, starts))
    elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        pairs = [(each.get("text"), each.get("answer_start")) for each in value]
    else:
        raise Refused("answers are no {text, answer_start}")
    for answer, start in pairs:
        if not isinstance(answer, str) or type(start) is not int or start < 0 or not answer:
            raise Refused("an answer without text or answer_start")
        if text[start : start + len(answer)] != answer:
            raise Refused("an answer that does not stand where answer_start says")
    return tuple(pairs)
