"""llama.cpp in the decoding benchmark, by its C interface: one sequence, or many in one batch, each in its own place.

A sequence that has what was wanted of it ends, and the next prompt takes its place, as in llama.cpp's server.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from benchmarks.runners.decode_session import Ids, main

BATCH_TOKENS = 512


class LlamaCpp:
    """The model folder in the format that the settings name, written beside it once."""

    def __init__(self, job: dict[str, Any]) -> None:
        folder, form, threads = Path(job["model"]), job["settings"]["format"], job["threads"]
        path = folder.with_name(f"{folder.name}-{form}.gguf")
        if not path.exists():
            half = path.with_suffix(".half")
            command = [sys.executable, "-m", "benchmarks.runners.decode_gguf", str(folder), str(half), form]
            subprocess.run(command, check=True, stdout=sys.stderr)
            half.rename(path)
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        rows = max(job["batch_rows"], default=1)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_seq_max, options.kv_unified = max(1024, 160 * rows), rows, False
        options.n_batch = options.n_ubatch = BATCH_TOKENS
        options.n_threads = options.n_threads_batch = threads
        self.contexts = {rows: llama_cpp.llama_init_from_model(model, options)}
        options.n_ctx, options.n_seq_max = 1024, 1
        self.contexts[1] = llama_cpp.llama_init_from_model(model, options)
        self.tokens = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)

    def generate(self, prompt: Ids, new_tokens: int) -> Ids:
        return self._run(self.contexts[1], [prompt], [new_tokens], 1)[0]

    def batch(self, prompts: list[Ids], wanted: list[int], rows: int) -> list[Ids]:
        return self._run(self.contexts[max(self.contexts)], prompts, wanted, rows)

    def _run(self, context: Any, prompts: list[Ids], wanted: list[int], rows: int) -> list[Ids]:
        memory = llama_cpp.llama_get_memory(context)
        llama_cpp.llama_memory_clear(memory, False)
        waiting, free = list(range(len(prompts)))[::-1], list(range(rows))[::-1]
        places: dict[int, int] = {}
        pending: dict[int, Ids] = {}
        written, answers = dict.fromkeys(range(len(prompts)), 0), [[] for _ in prompts]
        while waiting or places:
            while waiting and free:
                index = waiting.pop()
                places[index], pending[index] = free.pop(), prompts[index]
                llama_cpp.llama_memory_seq_rm(memory, places[index], -1, -1)
            ready = self._decode(context, places, pending, written)
            for at, index in ready:
                logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, at), (self.vocab_size,))
                answers[index].append(int(logits.argmax()))
                pending[index] = answers[index][-1:]
                if len(answers[index]) == wanted[index]:
                    free.append(places.pop(index))
                    del pending[index]
        return answers

    def _decode(
        self, context: Any, places: dict[int, int], pending: dict[int, Ids], written: dict[int, int]
    ) -> list[tuple[int, int]]:
        """One call of as many pending tokens as it takes -> (position in it, sequence) of those that are complete."""
        batch, count, ready = self.tokens, 0, []
        for index in sorted(pending, key=lambda index: len(pending[index])):
            now = pending[index][: BATCH_TOKENS - count]
            if not now:
                break
            for offset, token in enumerate(now):
                last = offset + 1 == len(pending[index])
                batch.token[count], batch.pos[count] = token, written[index] + offset
                batch.n_seq_id[count], batch.seq_id[count][0], batch.logits[count] = 1, places[index], last
                count += 1
            if len(now) == len(pending[index]):
                ready.append((count - 1, index))
            written[index] += len(now)
            pending[index] = pending[index][len(now) :]
        batch.n_tokens = count
        if llama_cpp.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        return ready


if __name__ == "__main__":
    main(LlamaCpp)
