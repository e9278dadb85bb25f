"""A model from elsewhere -> a model folder of ours, for `generate`, `chat` and `pretrain.from`.

    Hugging Face folder, .gguf --open_source--> our tensors, one at a time --write_weights--> model*.safetensors
    its tokenizer, or one that is given --take in--> tokenizer.json with our control tokens
    tables with a row for each token of that: rows added (the mean of the others) or, where nothing uses them, left out

Invariant: weights are copied, never computed on beyond what the layout asks for; the folder is read back, and by
transformers where it is installed, before it is called done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundup.errors import ModelFileError, resource_errors
from groundup.export.adapter_source import with_adapter
from groundup.export.check import check_folder
from groundup.export.gguf import read_gguf
from groundup.export.gguf_tokenizer import gguf_tokenizer
from groundup.export.huggingface import TORCH_DTYPES, ExportConfig, write_descriptions
from groundup.export.load import require_whole
from groundup.export.source import CONFIG, GGUF_SUFFIX, FittedSource, ModelSource, open_source
from groundup.export.write import write_weights
from groundup.models import EncoderConfig, own_shapes
from groundup.tokens import CONTROL_TOKENS, ENCODER_TOKENS, Tokenizer, load_foreign, require_control


def import_model(
    path: Path | str,
    folder: Path | str,
    config: ExportConfig | None = None,
    tokenizer: Path | None = None,
    with_transformers: bool = True,
    chat_template: str = "auto",
    adapter: Path | None = None,
) -> dict[str, Any]:
    """Write `folder` (made if need be). Returns {model_type, parameters, vocab_size, rows_in_file, checks}.

    `tokenizer`: file or folder to take instead of the model's own; `chat_template`: `auto` for its own where it has
    one, `own` for ours; `adapter`: folder of peft to merge in. Raises ModelFileError when the source is no model that
    can be read, or has no tokenizer; ResourceError when the disk refuses.
    """
    source, folder, config = open_source(Path(path)), Path(folder), config or ExportConfig()
    require_whole(source)
    if adapter is not None:
        source = with_adapter(source, adapter)
    if folder.resolve() == source.path.resolve():
        raise ModelFileError(f"{folder}: a model cannot be imported onto itself; name another folder")
    own = tokenizer_of(source, tokenizer, chat_template)
    fitted = FittedSource(source, own_shapes(source.config, own.vocab_size))
    with resource_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)
        write_weights(source.config, own.vocab_size, fitted, folder, TORCH_DTYPES[config.dtype], config.max_shard_bytes)
        write_descriptions(source.config, own, folder, config)
    try:
        checks = check_folder(folder, with_transformers=with_transformers)
    except BaseException:
        (folder / CONFIG).unlink(missing_ok=True)
        raise
    return {
        "parameters": source.config.num_parameters(own.vocab_size),
        "vocab_size": own.vocab_size,
        "rows_in_file": source.vocab_size,
        "checks": checks,
    }


def tokenizer_of(source: ModelSource, given: Path | None = None, chat_template: str = "auto") -> Tokenizer:
    """The tokenizer that is `given`, or comes with a model, made ours where it is not. Raises ModelFileError."""
    encoder = isinstance(source.config, EncoderConfig)
    control = (*CONTROL_TOKENS, *ENCODER_TOKENS) if encoder else CONTROL_TOKENS
    path = source.path if given is None else given
    if given is None and path.suffix == GGUF_SUFFIX and not path.is_dir():
        return gguf_tokenizer(read_gguf(path).metadata, path, chat_template)
    found = _ours(path, chat_template) or load_foreign(path, control=control, chat_template=chat_template)[0]
    require_control(found, control, path)
    return found


def _ours(path: Path, chat_template: str) -> Tokenizer | None:
    """The tokenizer of a folder that Groundup made, with the chat template that is wanted; None for another."""
    try:
        found = Tokenizer.load(path)
    except ModelFileError:
        return None
    if found.jinja is None:
        return found
    if chat_template == "own":
        return None
    found.jinja.judge(found)
    return found
