"""Texts -> what a labeller says of them.

    texts --encode_example--> windows --in batches of like length--> scores --Answers--> predictions, in order

Invariant: a text gets the same prediction alone and among others, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from groundup.errors import RecipeError
from groundup.inference.labels import THRESHOLD, Answers, Prediction
from groundup.models import LabelKind, Labeller
from groundup.tokens import Example, Tokenizer, Window, cut_words, encode_example

BATCH_TOKENS = 4096


@torch.inference_mode()
def predict(
    model: Labeller, tokenizer: Tokenizer, examples: Sequence[Example], threshold: float | None = None
) -> list[Prediction]:
    """A prediction for each example, whose labels are not looked at.

    `threshold`: probability from which on a text has a label, where it may have several (0.5).
    Raises RecipeError for an example that lacks what the task needs: a question, words, a model that knows pairs.
    """
    config = model.config
    check_threshold(config.task, threshold)
    for example in examples:
        _check(model, example)
    answers = Answers(config, tokenizer, THRESHOLD if threshold is None else threshold)
    windows: list[tuple[int, Window]] = []
    for number, example in enumerate(examples):
        found = encode_example(example, config.task, None, tokenizer, config.context_length)
        windows += [(number, window) for window in found]
        if any(window.was_cut for window in found):
            answers.cut.add(number)
    windows.sort(key=lambda each: len(each[1].tokens))
    while windows:
        longest = len(windows[-1][1].tokens)
        count = max(1, BATCH_TOKENS // longest)
        windows, batch = windows[:-count], windows[-count:]
        scores = _scores(model, [window for _, window in batch], tokenizer.need_encoder_ids().pad)
        for (number, window), found_scores in zip(batch, scores):
            length = len(window.tokens)
            words = sorted(window.targets[0])
            answers.add(number, window.first, found_scores[:length], torch.tensor(window.tokens), words)
    return [answers.of(number, example) for number, example in enumerate(examples)]


def asked(task: LabelKind, text: str | Sequence[str], pair: str | None = None, name: str = "") -> Example:
    """What is to be labelled, as an example without a label: running text, or words where words are labelled."""
    if task != "token":
        if not isinstance(text, str):
            raise RecipeError("this model reads running text; give a string, not a list of words")
        return Example(name, text, pair)
    words = cut_words(text) if isinstance(text, str) else tuple(text)
    return Example(name, " ".join(words), pair, words=words)


def check_threshold(task: LabelKind, threshold: float | None) -> None:
    """Raise RecipeError for a threshold that is no probability, or of a task that has none."""
    if threshold is None:
        return
    if task != "multilabel":
        raise RecipeError("threshold is for models of several labels of a text (multilabel); leave it out here")
    if not 0 < threshold < 1:
        raise RecipeError(f"threshold {threshold}: give a probability between 0 and 1, such as 0.5")


def _check(model: Labeller, example: Example) -> None:
    task = model.config.task
    if task == "span" and example.pair is None:
        raise RecipeError("a model of spans answers a question about a text; give the question too (--pair)")
    if task == "token" and not example.words:
        raise RecipeError("no word in the text, so there is nothing to label; give a text with words")
    if not example.text.strip():
        raise RecipeError("the text is empty, so there is nothing to say of it; give a text")
    if example.pair is not None and (task == "token" or model.config.num_parts < 2):
        raise RecipeError("this model reads one text, not a pair; leave the second text (--pair) out")


def _scores(model: Labeller, windows: Sequence[Window], pad: int) -> Tensor:
    """Scores [windows, time, outputs] of windows, filled up to the longest, which sees nothing of what fills."""
    time = max(len(window.tokens) for window in windows)
    tokens = torch.full((len(windows), time), pad)
    parts, segments = torch.zeros_like(tokens), torch.ones_like(tokens)
    for row, window in enumerate(windows):
        length = len(window.tokens)
        tokens[row, :length], parts[row, :length] = torch.tensor(window.tokens), torch.tensor(window.parts)
        segments[row, :length] = 0
    device = next(model.parameters()).device
    scores = model(tokens.to(device), segments=segments.to(device), parts=parts.to(device))
    assert isinstance(scores, Tensor), "without targets a model gives scores"
    return scores.float().cpu()
