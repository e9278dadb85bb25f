"""Run as a program: open an exported folder with transformers' Auto classes and write down what they make of it.

    python -P transformers_reference.py FOLDER REQUEST.json ANSWER.safetensors
    request   {"ids": [...], "text": "...", "messages": [...], "pair": "...", "architecture": "AutoModelFor..."}
    answer    logits [time, vocab] of the ids; ids of the text; ids of the messages, if any, by the chat template;
              ids of the text with its pair, if any, and which of the two each is of

A process of its own, so that transformers' import costs memory and seconds only while it is needed, and so that the
folder is proved to load where this package is not imported. Invariant: no code from the folder is run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WITHOUT_TRANSFORMERS = 3
"""Exit status when transformers cannot be imported."""


def main(folder: str, request_path: str, answer_path: str) -> None:
    """Load model and tokenizer of `folder`, answer the request."""
    try:
        import torch
        import transformers
        from safetensors.torch import save_file
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(WITHOUT_TRANSFORMERS)
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    kind = getattr(transformers, request["architecture"])
    model: torch.nn.Module = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    model.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with torch.inference_mode():
        found = model(torch.tensor([request["ids"]]))
        spans = "start_logits" in found
        logits = torch.stack([found.start_logits, found.end_logits], -1) if spans else found.logits
        logits = logits.flatten(0, -2).float()
    text_ids = tokenizer(request["text"], add_special_tokens=False)["input_ids"]
    answer = {"logits": logits, "text_ids": torch.tensor(text_ids)}
    if request["messages"]:
        prompt = tokenizer.apply_chat_template(request["messages"], add_generation_prompt=True, tokenize=False)
        answer["chat_ids"] = torch.tensor(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    if request["pair"]:
        both = tokenizer(request["text"], request["pair"])
        answer["pair_ids"] = torch.tensor(both["input_ids"])
        answer["pair_parts"] = torch.tensor(both.get("token_type_ids", []), dtype=torch.int64)
    save_file({name: tensor.contiguous() for name, tensor in answer.items()}, answer_path)


if __name__ == "__main__":
    main(*sys.argv[1:4])
