"""A small WordPiece vocabulary, as BERT's folders have one."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = "the river bank of zurich is long . , ! ? 北 京 大 学 中 a b c z u r i 1 2 - ' é Zurich The".split()
PIECES = [f"##{piece}" for piece in (*"abcdefghijklmnopqrstuvwxyz0123456789", "ing", "rich", "北", "京", "é")]
VOCAB = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *PIECES, "swim", "##ming", "##"]


def write_vocab(folder: Path, **settings: object) -> Path:
    """vocab.txt, with tokenizer_config.json where `settings` say something; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(VOCAB)) + "\n", encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "BertTokenizer", **settings}), encoding="utf-8"
        )
    return folder
