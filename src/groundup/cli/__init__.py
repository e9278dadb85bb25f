"""The command `groundup VERB ...`: arguments in, one verb done, results on stdout, an exit code out.

command.py    arguments -> verb -> exit code        verbs.py       the table of verbs
parser.py     the options that all verbs share      failure.py     an error -> lines on stderr, JSON, last words
rooms.py      rooms, imported when a verb needs one output.py      results -> stdout
stages.py     run ... export: a recipe's stages     asking.py      generate, chat, predict, compare
inspecting.py show, verify, tokenizer, doctor ...   writing.py     import, convert, report, deploy

Invariant: results go to stdout and nothing else does; whatever a user can cause ends in one line and a documented exit
code, never in a trace.
"""

from groundup.cli.command import main
from groundup.cli.parser import Verb
from groundup.cli.verbs import VERBS

__all__ = ["VERBS", "Verb", "main"]
