"""Model -> numbers, each with its standard error."""

from groundup.evaluate.evaluate import TASKS, Evaluation, evaluate, side_by_side
from groundup.evaluate.labels import Labelled, measure_labels
from groundup.evaluate.language import TextMeasure, measure_text
from groundup.evaluate.metrics import ClusterRatio, Metric, mean
from groundup.evaluate.preferences import measure_preferences, scored_answers
from groundup.evaluate.task import EvaluateConfig, Result, Subject

__all__ = [
    "TASKS",
    "ClusterRatio",
    "EvaluateConfig",
    "Evaluation",
    "Labelled",
    "Metric",
    "Result",
    "Subject",
    "TextMeasure",
    "evaluate",
    "mean",
    "measure_labels",
    "measure_preferences",
    "measure_text",
    "scored_answers",
    "side_by_side",
]
