"""Two models and the same prompts -> both answers side by side, figures of their difference, and verdicts of a judge.

prompts.py     a file, or the held-out questions of a run -> prompts, some with a reference
pairs.py       prompts and two models -> pairs of answers, their scores and paired differences
judge.py       a pair -> a verdict of another model, asked in both orders
agreement.py   verdicts -> win rates with standard errors, agreement with each other and with people
comparison.py  all of it, and what the page shows
targets.py     a recipe, run or model folder -> one of the two
options.py     what the command was told -> who judges
"""

from groundup.compare.comparison import Comparison, Side, compare, write_page
from groundup.compare.judge import Judge
from groundup.compare.options import judge_of, lines_of
from groundup.compare.prompts import held_out, read_prompts, spread
from groundup.compare.targets import prompts_for, side

__all__ = [
    "Comparison",
    "Judge",
    "Side",
    "compare",
    "held_out",
    "judge_of",
    "lines_of",
    "prompts_for",
    "read_prompts",
    "side",
    "spread",
    "write_page",
]
