"""Models of Groundup as a model type of EleutherAI's lm-eval: its tasks, our networks, nothing in between.

    python -m groundup.harness run --model groundup --model_args folder=FOLDER --tasks arc_easy,lambada_openai

is lm-eval's own command with this type added; so is `import groundup.harness` before `lm_eval.simple_evaluate`.
Offline, tasks are read from local files (`dataset_path: json` in a task's own YAML, `--include_path`).

Invariant: log-probabilities come from the same code as those of `evaluate.tasks`, so figures on the same items are
equal. Prompts of the chat template travel through lm-eval as text, but are encoded here from the turns they were made
of, so no text in a task can forge a turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval import utils
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

from groundup.evaluate import Request, StopTexts, score
from groundup.export import load_model
from groundup.inference import GenerateConfig, generate_batch
from groundup.models import causal
from groundup.tokens import turns_from_messages

MODEL_TYPE = "groundup"
MAX_NEW_TOKENS = 256
"""Where a task does not say how long an answer may be; as in lm-eval's own model types."""


@register_model(MODEL_TYPE)
class GroundupLM(TemplateLM):
    """A model folder, a run or a .gguf folder that was imported, as lm-eval asks for it."""

    def __init__(self, folder: str, device: str | None = None, **settings: Any) -> None:
        """`settings`: what lm-eval hands to every model type; batches are made by length here."""
        super().__init__()
        loaded = load_model(folder, device=device or "cpu")
        self.network, self.text = causal(loaded.model), loaded.tokenizer
        self._folder = str(loaded.folder)
        self._prompts: dict[str, list[int]] = {}
        """Prompts of the chat template, as text -> as ids."""
        self._lengths: set[int] = set()

    @property
    def eot_token_id(self) -> int:
        """What begins and ends a document; an empty context is this."""
        return self.text.end_of_text_id

    @property
    def max_length(self) -> int:
        """Tokens of context and answer."""
        return self.network.config.context_length

    @property
    def tokenizer_name(self) -> str:
        """Name under which lm-eval caches requests."""
        return self._folder.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Only a name, as the template is applied here."""
        return MODEL_TYPE if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The prompt as text. Raises NotImplementedError for an answer that is begun already (`gen_prefix`)."""
        if not add_generation_prompt:
            raise NotImplementedError("an answer that is begun already (gen_prefix) cannot be asked through a template")
        ids = self.text.prompt(turns_from_messages(chat_history))
        shown = self.text.decode(ids, skip_control=False)
        self._prompts[shown] = ids
        self._lengths.add(len(shown))
        return shown

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **settings: Any) -> list[int]:
        """Ids of a text; one that begins with a prompt of the chat template has that one's ids first."""
        for end in sorted(self._lengths, reverse=True):
            if string[:end] in self._prompts:
                return [*self._prompts[string[:end]], *self.text.encode(string[end:])]
        return self.text.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **settings: Any
    ) -> list[tuple[float, bool]]:
        found = score(self.network, [Request(tuple(context), tuple(said)) for _, context, said in requests])
        answers = [(each.log_likelihood, each.is_greedy) for each in found]
        for (texts, _, _), answer in zip(requests, answers):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts, each token predicted once, with as much before it as fits."""
        windows: list[tuple[None, list[int], list[int]]] = []
        counts: list[int] = []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            pairs = utils.get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
            disjoint = [utils.make_disjoint_window(pair) for pair in pairs]
            windows += [(None, context, said) for context, said in disjoint]
            counts.append(len(disjoint))
        scores = iter(self._loglikelihood_tokens(windows))
        return [sum(next(scores)[0] for _ in range(count)) for count in counts]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers up to a stop text, greedily unless a task asks for draws."""
        answers = [""] * len(requests)
        together: defaultdict[str, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            together[repr(sorted(request.args[1].items()))].append(index)
        for indices in together.values():
            prompts = [requests[index].args[0] for index in indices]
            for index, answer in zip(indices, self._answers(prompts, requests[indices[0]].args[1])):
                answers[index] = answer
                self.cache_hook.add_partial("generate_until", requests[index].args, answer)
        return answers

    def _answers(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
        until = settings.get("until") or []
        stop = StopTexts([until] if isinstance(until, str) else until, self.text)
        room = int(settings.get("max_gen_toks", settings.get("max_new_tokens", MAX_NEW_TOKENS)))
        room = min(room, self.max_length - 1)
        drawn = bool(settings.get("do_sample", float(settings.get("temperature") or 0.0) > 0))
        config = GenerateConfig(
            max_new_tokens=room,
            temperature=float(settings.get("temperature") or 1.0) if drawn else 0.0,
            top_p=float(settings.get("top_p") or 1.0),
            top_k=int(settings.get("top_k") or 0),
        )
        ids = [self.tok_encode(prompt)[-(self.max_length - room) :] or [self.prefix_token_id] for prompt in prompts]
        found = generate_batch(self.network, ids, config, self.text.stop_ids, ended=stop.found)
        return [stop.before(self.text.decode(said)) for said in found]


if __name__ == "__main__":
    cli_evaluate()
