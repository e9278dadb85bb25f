"""Texts -> the pieces of a unigram language model over strings of bytes (Kudo 2018, arXiv:1804.10959).

    text --words of the pattern, counted--> strings of bytes --sentencepiece: seed, EM, prune--> pieces, probabilities

Trained by sentencepiece and not by the tokenizers library, whose trainer gives other scores at every run. Invariant:
the same texts give the same pieces; every byte is a piece, so there is nothing that the model cannot spell.
"""

from __future__ import annotations

import importlib.util
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, pre_tokenizers

from groundup.errors import DataError, RecipeError
from groundup.scratch import scratch_folder
from groundup.tokens.patterns import PATTERNS
from groundup.tokens.tokenizer_file import BYTE_ALPHABET
from groundup.tokens.words import parts_of, splitter

NO_PIECE = "▁unknown▁"
"""Name of sentencepiece's token for unknown text: of characters that are not in the alphabet of bytes."""
COUNTED_WORDS = 1 << 22
"""With more distinct words than this, those met once are dropped: about 1 GB."""


def require_sentencepiece() -> None:
    """Raise RecipeError when the library that trains unigram models is not installed."""
    if importlib.util.find_spec("sentencepiece") is None:
        raise RecipeError(
            "tokenizer.model: unigram needs the library sentencepiece; pip install 'groundup[unigram]', or take bpe"
        )


def train_pieces(texts: Iterable[str], pattern: str, vocab_size: int, max_piece_bytes: int) -> list[tuple[str, float]]:
    """At most `vocab_size` pieces in the alphabet of bytes, with log probabilities, the 256 bytes among them.

    Empty without any text. Raises RecipeError without sentencepiece, DataError when it cannot train on the text.
    """
    require_sentencepiece()
    words = _counted(texts, pattern)
    absent = sorted(set(BYTE_ALPHABET.values()) - {character for word in words for character in word})
    if not words:
        return []
    with scratch_folder("unigram") as folder:
        with (folder / "words.tsv").open("w", encoding="utf-8") as file:
            file.writelines(f"{word}\t{count}\n" for word, count in sorted(words.items()))
        pieces = _trained(folder / "words.tsv", vocab_size - len(absent), max_piece_bytes)
    least = min(score for _, score in pieces)
    known = {piece for piece, _ in pieces}
    rest = [character for character in BYTE_ALPHABET.values() if character not in known]
    return [*pieces, *((character, least) for character in rest)]


def _counted(texts: Iterable[str], pattern: str) -> Counter[str]:
    """How often each word comes, in the alphabet of bytes."""
    split, counts = splitter(pattern), Counter[str]()
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in PATTERNS[pattern].expressions]
    by_library = pre_tokenizers.Sequence(splits)
    for text in texts:
        for beyond, part in parts_of(text, pattern):
            counts.update((word for word, _ in by_library.pre_tokenize_str(part)) if beyond else split(part))
        if len(counts) > COUNTED_WORDS:
            counts = Counter({word: count for word, count in counts.items() if count > 1})
    spelt = Counter[str]()
    for word, count in counts.items():
        spelt["".join(BYTE_ALPHABET[byte] for byte in word.encode())] += count
    return spelt


def _trained(file: Path, vocab_size: int, max_piece_bytes: int) -> list[tuple[str, float]]:
    """The pieces of sentencepiece on one thread: with more the sums depend on their number."""
    import sentencepiece

    made = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=str(file),
            input_format="tsv",
            model_writer=made,
            model_type="unigram",
            vocab_size=vocab_size + 1,
            hard_vocab_limit=False,
            max_sentencepiece_length=max_piece_bytes,
            max_sentence_length=1 << 20,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_whitespace=False,
            split_by_unicode_script=False,
            split_by_number=False,
            character_coverage=1.0,
            unk_piece=NO_PIECE,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).replace("\n", " ")[-80:]
        raise DataError(f"no unigram model of this text ({reason}); give more text or a smaller vocab_size") from None
    model = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    return [(model.id_to_piece(i), model.get_score(i)) for i in range(len(model)) if not model.is_unknown(i)]
