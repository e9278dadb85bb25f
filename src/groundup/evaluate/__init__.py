"""Model -> numbers, each with its standard error."""

from groundup.evaluate.evaluate import TASKS, Evaluation, evaluate, side_by_side
from groundup.evaluate.forgetting import FORGETTING, TextSums, changes, lost_share, text_sums
from groundup.evaluate.labels import Labelled, measure_labels
from groundup.evaluate.language import TextMeasure, measure_text
from groundup.evaluate.metrics import ClusterRatio, Metric, mean
from groundup.evaluate.packed_answers import Scores, answer_matches, answer_sums
from groundup.evaluate.task import EvaluateConfig, Result, Subject

__all__ = [
    "FORGETTING",
    "TASKS",
    "ClusterRatio",
    "EvaluateConfig",
    "Evaluation",
    "Labelled",
    "Metric",
    "Result",
    "Scores",
    "Subject",
    "TextMeasure",
    "TextSums",
    "answer_matches",
    "answer_sums",
    "changes",
    "evaluate",
    "lost_share",
    "mean",
    "measure_labels",
    "measure_text",
    "side_by_side",
    "text_sums",
]
