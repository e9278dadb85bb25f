"""A conversation with a model: messages in, answers out piece by piece, history kept.

    reply(text) -> history + user turn --template--> prompt ids --stream--> pieces --> assistant turn into the history

When history and answer would not fit the context, the oldest pairs of turns are forgotten (the system turn stays),
which is said once. Invariant: `messages` alternates between user and assistant, and holds each answer as far as it was
read.
"""

from __future__ import annotations

from collections.abc import Iterator

from groundup.errors import RecipeError
from groundup.inference.generate import GenerateConfig, stream
from groundup.log import logger
from groundup.models import CausalNetwork
from groundup.tokens import Tokenizer, Turn, without_lead

RESERVE_SHARE = 4
"""At least min(max_new_tokens, context_length / RESERVE_SHARE) tokens of the context are kept free for an answer."""


class Chat:
    """History of one conversation. `system` is an instruction that stays at its top."""

    def __init__(
        self,
        model: CausalNetwork,
        tokenizer: Tokenizer,
        config: GenerateConfig | None = None,
        system: str | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config or GenerateConfig()
        self.messages: list[Turn] = []
        self._system = [Turn("system", system)] if system else []
        self._said = False

    def reset(self) -> None:
        """Forget all turns but the system's."""
        self.messages = []

    def reply(self, text: str) -> Iterator[str]:
        """Ask `text`; yields the answer in pieces. Raises RecipeError when `text` alone does not fit the context."""
        question = Turn("user", text)
        prompt = self._prompt([*self.messages, question])
        answer = ""
        try:
            pieces = stream(self.model, self.tokenizer, prompt, self.config, self.tokenizer.stop_ids)
            for piece in without_lead(pieces, self.tokenizer.template.lead(self.tokenizer)):
                answer += piece
                yield piece
        finally:
            if answer:
                self.messages += [question, Turn("assistant", answer)]

    def _prompt(self, turns: list[Turn]) -> list[int]:
        """Ids of as many of the latest turns as fit beside the room for an answer."""
        context_length = self.model.config.context_length
        limit = context_length - min(self.config.max_new_tokens, context_length // RESERVE_SHARE)
        for first in range(0, len(turns), 2):
            prompt = self.tokenizer.prompt([*self._system, *turns[first:]])
            if len(prompt) <= limit:
                if first and not self._said:
                    self._said = True
                    logger.info(f"the context of {context_length} tokens is full: the oldest turns are forgotten")
                return prompt
        raise RecipeError(
            f"a question of {len(prompt)} tokens: the model's context holds {context_length}, "
            f"{limit} of them for the question; ask a shorter one"
        )
