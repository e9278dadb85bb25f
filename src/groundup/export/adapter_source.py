"""A model on the disk and an adapter folder of peft on top of it -> the merged model, one tensor at a time.

    adapter_config.json -> rank, alpha, LoRA or DoRA ; adapter_model.safetensors -> A, B, magnitudes by module
    our tensors of the base, each read when it is asked for --those with an adapter: merged--> the same names

Invariant: every tensor of the adapter folder has its place in the model, and no setting of it is passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from groundup.export.adapter import CONFIG, ENDINGS, PREFIX, WEIGHTS
from groundup.export.source import ModelSource
from groundup.export.weights import TensorFiles, fault, read_header, read_json, require_weights
from groundup.models import DoRAConfig, LoRAConfig, LowRankConfig, layout_of
from groundup.models.adapters import Adapter

UNREADABLE = (
    *("layer_replication", "trainable_token_indices", "target_parameters", "lora_bias"),
    *("megatron_config", "alora_invocation_tokens", "arrow_config"),
)
"""Settings that change what an adapter computes when they are used."""


def with_adapter(source: ModelSource, folder: Path) -> ModelSource:
    """`source` with the adapter of `folder` merged into its tensors.

    Raises ModelFileError when the folder is damaged, no LoRA or DoRA, or not for this model.
    """
    config, values = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    if not path.is_file():
        raise fault(path, "not there; an adapter folder has it beside adapter_config.json")
    facts = read_header(path)
    require_weights(facts)
    files = TensorFiles(facts)
    layout = layout_of(source.config)
    adapters: dict[str, Adapter] = {}
    whole: dict[str, Tensor] = {}
    used = {f"{PREFIX}{copy}" for copy in layout.copies(source.config)} & facts.keys()
    for theirs, part in layout.parts(source.config).items():
        if f"{PREFIX}{theirs}" in facts:
            whole |= dict(part.split(files.read(f"{PREFIX}{theirs}"), source.shapes))
            used.add(f"{PREFIX}{theirs}")
        module = f"{PREFIX}{theirs.removesuffix('.weight')}"
        names = {ours: f"{module}.{ending}" for ours, ending in ENDINGS.items() if f"{module}.{ending}" in facts}
        if not names or not theirs.endswith(".weight"):
            continue
        if part.piece is not None or set(names) != _wanted(config):
            raise fault(path, f"'{module[:80]}' lacks one of {', '.join(sorted(_wanted(config)))}; save it again")
        parts = {ours: files.read(name).float() for ours, name in names.items()}
        heights = [source.shapes[name][0] for name in part.ours]
        _check_shapes(path, module, parts, (sum(heights), *source.shapes[part.ours[0]][1:]))
        alpha = _of_module(values.get("alpha_pattern"), module, config.alpha)
        own = config.model_copy(update={"rank": len(parts["down"]), "alpha": alpha})
        for name, piece in zip(part.ours, _pieces(parts, heights)):
            adapters[name] = _adapter(own, piece)
        used |= set(names.values())
    _check_tables(path, source, whole, used, values)
    strange = sorted(facts.keys() - used)
    if strange or not used:
        shown = strange[0][:80] if strange else "no adapter"
        raise fault(path, f"holds {shown!r}, which has no place in this model; give the base that it was trained on")

    def read(theirs: str) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in source.read(theirs):
            own = whole.get(name, tensor)
            yield name, adapters[name].merged(own) if name in adapters else own

    return replace(source, read=read, files=(*source.files, folder / CONFIG, path))


def _check_tables(
    path: Path,
    source: ModelSource,
    whole: Mapping[str, Tensor],
    whole_names: Collection[str],
    values: Mapping[str, Any],
) -> None:
    """What takes the place of a tensor fits it; a tied table that learnt apart from the head is tied no more."""
    missing = [each for each in values.get("modules_to_save") or [] if not _holds(whole_names, str(each))]
    if missing:
        raise fault(path, f"modules_to_save names {str(missing[0])[:60]!r}, of which it holds nothing; save it again")
    for name, tensor in whole.items():
        if tuple(tensor.shape) != source.shapes[name]:
            raise fault(path, f"{name} is {list(tensor.shape)}, the base has {list(source.shapes[name])}; not its base")
        if source.config.tied and name.startswith("embedding") and not values.get("ensure_weight_tying"):
            raise fault(
                path, "its table learnt apart from the output matrix that it is tied to; merge it with peft first"
            )


def _holds(names: Collection[str], module: str) -> bool:
    return any(f".{name.rpartition('.')[0]}".endswith(f".{module}") for name in names)


def _wanted(config: LowRankConfig) -> set[str]:
    return set(ENDINGS) if isinstance(config, DoRAConfig) else {"down", "up"}


def _read_config(path: Path) -> tuple[LowRankConfig, Mapping[str, Any]]:
    values = read_json(path)
    if values.get("peft_type") != "LORA":
        raise fault(path, f"peft_type {str(values.get('peft_type'))[:30]!r} is not supported, LORA is (and DoRA in it)")
    for key in UNREADABLE:
        if values.get(key):
            raise fault(path, f"{key} = {str(values[key])[:30]!r} is not supported; merge the adapter with peft first")
    if values.get("bias", "none") != "none":
        raise fault(path, f"bias = {str(values['bias'])[:30]!r} is not supported; merge the adapter with peft first")
    rank: Any = values.get("r")
    alpha: Any = values.get("lora_alpha")
    numbers = type(rank) is int and isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not numbers or rank < 1 or not alpha > 0:
        raise fault(path, f"r = {str(rank)[:20]}, lora_alpha = {str(alpha)[:20]} are no rank and alpha; save it again")
    made = DoRAConfig if values.get("use_dora") else LoRAConfig
    return made(rank=rank, alpha=alpha, rank_stabilised=bool(values.get("use_rslora"))), values


def _of_module(patterns: object, module: str, usual: float) -> float:
    """The alpha of a module: what the first pattern that ends its path says, else the usual one."""
    if not isinstance(patterns, Mapping):
        return usual
    return next((float(value) for end, value in patterns.items() if f".{module}".endswith(f".{end}")), usual)


def _check_shapes(path: Path, module: str, parts: Mapping[str, Tensor], base: tuple[int, ...]) -> None:
    down, up = parts["down"], parts["up"]
    fits = down.ndim == up.ndim == 2 and len(down) == up.shape[1] and (len(up), down.shape[1]) == base
    if not fits or ("magnitude" in parts and parts["magnitude"].shape != (base[0],)):
        shapes = f"{list(up.shape)} x {list(down.shape)}"
        raise fault(path, f"'{module[:60]}' is {shapes}, the base has {list(base)}; give the base it was trained on")


def _pieces(parts: Mapping[str, Tensor], heights: list[int]) -> Iterator[dict[str, Tensor]]:
    """The adapter of a joined matrix as one of each of ours: the same A, their rows of B and of the magnitudes."""
    start = 0
    for height in heights:
        rows = {name: part[start : start + height] for name, part in parts.items() if name != "down"}
        yield {"down": parts["down"], **rows}
        start += height


def _adapter(config: LowRankConfig, parts: Mapping[str, Tensor]) -> Adapter:
    adapter = Adapter(parts["down"].shape[1], len(parts["up"]), config, 0)
    adapter.load_state_dict(dict(parts))
    return adapter
