"""Model -> numbers, each with its standard error."""

from groundup.evaluate.answers import ask
from groundup.evaluate.evaluate import TASKS, Evaluation, evaluate, measure, side_by_side, unmeasured
from groundup.evaluate.forgetting import FORGETTING, TextSums, changes, lost_share, text_sums
from groundup.evaluate.labels import Labelled, measure_labels
from groundup.evaluate.language import TextMeasure, measure_language, measure_text
from groundup.evaluate.metrics import ClusterRatio, Metric, mean
from groundup.evaluate.packed_answers import Scores, answer_matches, answer_sums
from groundup.evaluate.preferences import measure_preferences, scored_answers
from groundup.evaluate.task import EvaluateConfig, Result, Subject
from groundup.evaluate.tasks.config import PATHS, EvaluationTask, task_identity
from groundup.evaluate.tasks.likelihood import Request, Score, score
from groundup.evaluate.tasks.measure import fields_of, kind_of, measure_tasks
from groundup.evaluate.tasks.stopping import StopTexts

__all__ = [
    "FORGETTING",
    "PATHS",
    "TASKS",
    "ClusterRatio",
    "EvaluateConfig",
    "Evaluation",
    "EvaluationTask",
    "Labelled",
    "Metric",
    "Request",
    "Result",
    "Score",
    "Scores",
    "StopTexts",
    "Subject",
    "TextMeasure",
    "TextSums",
    "answer_matches",
    "answer_sums",
    "ask",
    "changes",
    "evaluate",
    "fields_of",
    "kind_of",
    "lost_share",
    "mean",
    "measure",
    "measure_labels",
    "measure_language",
    "measure_preferences",
    "measure_tasks",
    "measure_text",
    "score",
    "scored_answers",
    "side_by_side",
    "task_identity",
    "text_sums",
    "unmeasured",
]
