"""Prompt -> tokens: prefill, decode, cache, sampling, batching, chat."""

from groundup.inference.chat import Chat
from groundup.inference.entities import Entity, entities, spells_entities
from groundup.inference.fill import GAP, Filling, fill_mask
from groundup.inference.generate import GenerateConfig, decode_pieces, generate_batch, generate_ids, stream
from groundup.inference.labels import (
    Answers,
    LabelPrediction,
    LabelsPrediction,
    NumberPrediction,
    Prediction,
    SpanPrediction,
    WordsPrediction,
)
from groundup.inference.predict import asked, check_threshold, predict

__all__ = [
    "GAP",
    "Answers",
    "Chat",
    "Entity",
    "Filling",
    "GenerateConfig",
    "LabelPrediction",
    "LabelsPrediction",
    "NumberPrediction",
    "Prediction",
    "SpanPrediction",
    "WordsPrediction",
    "asked",
    "check_threshold",
    "decode_pieces",
    "entities",
    "fill_mask",
    "generate_batch",
    "generate_ids",
    "predict",
    "spells_entities",
    "stream",
]
