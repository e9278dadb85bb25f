"""Cleaning of single documents: what is mended, what is dropped, and why.

config.py      the fields of `corpus.clean`, presets    cleaner.py     the rules in order; what they changed
text.py        a document's features; outcomes          words.py       a string's words as arrays
scripts.py     facts about characters                   stop_words.py  function words by language
mend.py        line ends, controls, Unicode, mojibake   boilerplate.py publishers', licences' and web pages' lines
lines.py       repeated lines                           frequent.py      lines frequent in the corpus
language.py    identification                           gopher.py      Gopher's quality filters
repetition.py  Gopher's repetition filters              c4.py          C4's heuristics
fineweb.py     FineWeb's filters                        word_lists.py  unwanted words
personal.py    personal data                            length.py      length bounds
"""

from groundup.corpus.clean.cleaner import Changes, Cleaner, Resources, load_resources
from groundup.corpus.clean.config import CleanConfig
from groundup.corpus.clean.text import Dropped, Edited, Rule, Text

__all__ = ["Changes", "CleanConfig", "Cleaner", "Dropped", "Edited", "Resources", "Rule", "Text", "load_resources"]
