"""A small WordPiece vocabulary, as BERT's folders have one."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = ("the", "river", "bank", "of", "zurich", "is", "long", "swim", "Zurich", "The", *"abczuri12é.,!?-'北京大学中")
PIECES = tuple(f"##{piece}" for piece in (*"abcdefghijklmnopqrstuvwxyz0123456789北京é", "ing", "ming", "rich", ""))
VOCAB = ("[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *PIECES)


def write_vocab(folder: Path, **settings: object) -> Path:
    """vocab.txt, with tokenizer_config.json where `settings` say something; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(VOCAB)) + "\n", encoding="utf-8")
    if settings:
        said = {"tokenizer_class": "BertTokenizer", **settings}
        (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder
