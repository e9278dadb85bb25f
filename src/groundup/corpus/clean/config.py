"""What the cleaning of single documents does: one field a rule, and presets that switch rules on together.

A preset only fills in what the recipe leaves out: a rule given in the recipe keeps its own values and takes the others
from the preset; `null` leaves a rule of the preset out.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from groundup.config import Config
from groundup.corpus.clean.boilerplate import BoilerplateConfig
from groundup.corpus.clean.c4 import C4Config
from groundup.corpus.clean.fineweb import FineWebConfig
from groundup.corpus.clean.gopher import GopherConfig
from groundup.corpus.clean.language import LanguageConfig
from groundup.corpus.clean.lines import LinesConfig
from groundup.corpus.clean.personal import PersonalDataConfig
from groundup.corpus.clean.repetition import RepetitionConfig
from groundup.corpus.clean.word_lists import WordListConfig

_BASIC: dict[str, Any] = {"unicode": "nfc", "mojibake": True, "boilerplate": BoilerplateConfig()}
_GOPHER: dict[str, Any] = {**_BASIC, "gopher": GopherConfig(), "repetition": RepetitionConfig()}
PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "basic": _BASIC,
    "gopher": _GOPHER,
    "c4": {**_BASIC, "c4": C4Config()},
    "fineweb": {
        **_GOPHER,
        "c4": C4Config(terminal_punctuation=False),
        "fineweb": FineWebConfig(),
        "personal_data": PersonalDataConfig(phone="keep", card="keep", chinese_id="keep", iban="keep"),
    },
}
"""preset -> fields of CleanConfig that it sets. FineWeb leaves out C4's rule of terminal punctuation and masks e-mail
and IP addresses only (Penedo et al. 2024)."""


class CleanConfig(Config):
    """What is mended and what is dropped before deduplication; rules run in the order of these fields."""

    preset: Literal["none", "basic", "gopher", "c4", "fineweb"] = "none"
    """Rules switched on together; fields given beside it win. `basic`: `mojibake`, `unicode`, `boilerplate`. `gopher`:
    also `gopher`, `repetition`. `c4`: basic and `c4`. `fineweb`: gopher's, `c4`, `fineweb`, and `personal_data`."""
    mojibake: bool = False
    """Mend text that was decoded in the wrong encoding, where it can be told for sure (ftfy, and GB 18030)."""
    unicode: Literal["keep", "nfc", "nfkc"] = "keep"
    """`nfc` composes characters, so that a letter with an accent is always the same code point; `nfkc` also folds
    full-width, circled and ligature forms, which changes Chinese and Japanese punctuation."""
    boilerplate: BoilerplateConfig | None = None
    """Cut out Project Gutenberg's frame, licences, notices and web lines."""
    repeated_lines: LinesConfig | None = None
    """Remove lines that were said before."""
    language: LanguageConfig | None = None
    """Identify the language, and keep only some."""
    gopher: GopherConfig | None = None
    """Gopher's quality filters."""
    repetition: RepetitionConfig | None = None
    """Gopher's repetition filters."""
    c4: C4Config | None = None
    """C4's heuristics."""
    fineweb: FineWebConfig | None = None
    """FineWeb's own filters."""
    word_lists: tuple[WordListConfig, ...] = ()
    """Lists of unwanted words."""
    personal_data: PersonalDataConfig | None = None
    """Mask personal data, or drop what holds it."""
    min_characters: int = Field(default=1, ge=1)
    """Shorter documents are dropped."""
    max_characters: int = Field(default=0, ge=0)
    """Longer documents are dropped; 0: no limit."""
    samples: int = Field(default=3, ge=0, le=1000)
    """How many examples the report keeps of what each rule dropped or changed."""

    @model_validator(mode="after")
    def _with_preset(self) -> Self:
        for name, value in PRESETS[self.preset].items():
            given = getattr(self, name)
            if name not in self.model_fields_set:
                object.__setattr__(self, name, value)
            elif isinstance(given, Config) and isinstance(value, Config):
                left_out = {
                    key: getattr(value, key) for key in type(value).model_fields if key not in given.model_fields_set
                }
                object.__setattr__(self, name, given.model_copy(update=left_out))
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_characters and self.max_characters < self.min_characters:
            raise ValueError(f"max_characters must be 0 or at least min_characters = {self.min_characters}")
        names = [words.name.lower() for words in self.word_lists]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two word lists are named '{twice[0]}' (letter case aside); give each its own name")
        return self
