"""A GGUF file -> a Hugging Face folder with bfloat16 weights, by transformers: GGUF FOLDER are the arguments.

The quantised numbers are taken as they are, so all tools compute the same function from the same folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GgufConfig


def main() -> None:
    """Convert, and leave out what config.json says of the file's origin only."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_model_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1))


if __name__ == "__main__":
    main()
