"""What `Explainer` tells of a record -> lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from groundup.corpus.explanation.explainer import CONTAMINATED, DUPLICATES, FILTERED, KEPT, REJECTED

_WIDTH = 10


def lines_of(told: Mapping[str, Any]) -> list[str]:
    """The outcome first, then where the record is, what cleaning did, and what it was compared with."""
    return [f"{told['id']}: {_outcome(told)}", *_place(told), *_text(told), *_decision(told), *_unknown(told)]


def _outcome(told: Mapping[str, Any]) -> str:
    outcome = str(told["outcome"])
    if outcome == REJECTED:
        return f"rejected ({told['reason']})"
    if outcome == FILTERED:
        return f"dropped by the rule '{told['rule']}' ({told['reason']})"
    if outcome == CONTAMINATED:
        names = [each["set"] for each in told["contaminated_by"] if each["action"] == "drop"]
        return f"dropped, as it holds a text of {' and '.join(names)}"
    if outcome in DUPLICATES.values():
        return f"{outcome} of {told['duplicate_of']['id']}"
    return f"kept, in {told['split']}" if outcome == KEPT else "not decided yet"


def _row(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{text}"


def _place(told: Mapping[str, Any]) -> Iterator[str]:
    member = f", member {told['member']}" if told["member"] else ""
    offset = f", at byte {told['offset_bytes']:,}" if told["offset_bytes"] is not None else ""
    section = told["section_bytes"]
    within = f", in the section of bytes {section[0]:,} to {section[1]:,}" if section else ""
    yield _row("found", f"{told['path']}{member}, record {told['record']}{offset}{within} ({told['format']})")


def _text(told: Mapping[str, Any]) -> Iterator[str]:
    if "raw" not in told:
        return
    raw, cleaned = told["raw"], told.get("cleaned")
    size = f"{raw['characters']:,} characters, {raw['bytes']:,} bytes"
    if cleaned and cleaned != raw:
        size += f"; after cleaning {cleaned['characters']:,} characters, {cleaned['bytes']:,} bytes"
    yield _row("size", size)
    if cleaned:
        known = [("script", told["script"]), ("language", told["metadata"].get("language", "not given"))]
        yield _row("about", "; ".join(f"{key}: {value}" for key, value in [*known, ("licence", _license(told))]))
    for change in told["changes"]:
        edits = "".join(f", {name}: {count}" for name, count in change["edits"].items())
        yield _row("cleaned", f"{change['rule']}: {_shorter(change['bytes_removed'])}{edits}")
    if not told["changes"]:
        yield _row("cleaned", "nothing was changed")
    yield from (f"    {line}" for line in told["differences"])


def _shorter(size_bytes: int) -> str:
    if not size_bytes:
        return "as long as before"
    return f"{abs(size_bytes):,} byte{'s' if abs(size_bytes) != 1 else ''} {'shorter' if size_bytes > 0 else 'longer'}"


def _license(told: Mapping[str, Any]) -> str:
    return str(told["license"] or "not given")


def _decision(told: Mapping[str, Any]) -> Iterator[str]:
    if told["outcome"] == REJECTED:
        if not told["reached"]:
            yield _row("rejected", "with the rest of its file, before the record was reached")
        yield _row("because", f"{told['reason']}: {told['excerpt']}".removesuffix(": "))
        return
    if told["outcome"] == FILTERED:
        measured = f": measured {told['value']}, the bound is {told['bound']}" if "value" in told else ""
        yield _row("because", f"{told['reason']}{measured}")
    yield _row("text", told["excerpt"])
    for each in told.get("contaminated_by", ()):
        done = "dropped for it" if each["action"] == "drop" else "only counted"
        yield _row(
            "holds", f"{each['example']} of {each['set']}, {each['share']:.0%} of it ({done}): {each['excerpt']}"
        )
    if "duplicate_of" in told:
        yield from _duplicate(told["duplicate_of"])
    for one in told["added"]:
        yield _row("added", f"{one['id']} by {one['method']}: {one['excerpt']}")


def _duplicate(original: Mapping[str, Any]) -> Iterator[str]:
    if "split" not in original:
        return
    yield _row("kept", f"{original['id']}, in {original['split']}: {original['excerpt']}")
    if original["same_text"]:
        yield _row("compared", "the texts are the same")
    elif original["kind"] == "exact" and original["jaccard"] == 1:
        yield _row("compared", "the texts are the same but for case, white space and Unicode composition")
    else:
        chain = "" if original["jaccard"] >= original["threshold"] else "; joined by other documents between them"
        figures = f"Jaccard similarity {original['jaccard']:.4f}, from {original['threshold']} on it is the same"
        yield _row("compared", figures + chain)
    yield from (f"    {line}" for line in original["differences"])


def _unknown(told: Mapping[str, Any]) -> Iterator[str]:
    for what in told.get("unknown", ()):
        yield _row("unknown", what)
    if "split_if_kept" in told:
        yield _row("if kept", f"it goes to {told['split_if_kept']}")
