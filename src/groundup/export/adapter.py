"""Adapters -> the folder that peft has for them: adapter_config.json, adapter_model.safetensors.

    layers.0.attention.query.adapter.down       base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight
                            .adapter.up                                                        .lora_B.weight
                            .adapter.magnitude                                                 .lora_magnitude_vector

Where a layout joins several of our matrices, their adapters are joined too: the A below each other, the B along a
diagonal, with as much more rank and alpha. Invariant: peft's model on the same base gives the merged model's logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from groundup.errors import ModelFileError
from groundup.models import DoRAConfig, LowRankConfig, NetworkConfig, huggingface_tensors, layout_of, tuning
from groundup.models.adapters import MARK, Adapter
from groundup.stage import write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
ENDINGS = {"down": "lora_A.weight", "up": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
"""Our name of a part of an adapter -> peft's."""


def save_adapter(
    model: NetworkConfig,
    vocab_size: int,
    config: LowRankConfig,
    learned: Mapping[str, Tensor],
    folder: Path,
    base: str | None = None,
) -> None:
    """Write what was learnt as peft has it; `base`: what adapter_config.json says of where the base model is.

    Raises ModelFileError when the layout that such a model is exported in cannot say it.
    """
    groups = _groups(model, learned)
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    turned = set()
    for module, (names, is_turned) in groups.items():
        found = [tuning.read_adapter(name, config, learned) for name in names]
        joined = _joined(found)
        tensors |= {f"{PREFIX}{module}.{ENDINGS[part]}": value for part, value in joined.items()}
        turned.add(is_turned)
        if len(joined["down"]) != config.rank:
            ranks[module] = len(joined["down"])
    whole = _whole(model, learned)
    tensors |= {f"{PREFIX}{name}": value for name, value in whole.items()}
    copies = layout_of(model).copies(model).items()  # peft asks for both names of a tied table
    tensors |= {f"{PREFIX}{copy}": whole[name].clone() for copy, name in copies if name in whole}
    saved = [name.rpartition(".")[0] for name in whole]
    beside = [name for name in layout_of(model).parts(model) if name.rpartition(".")[0] in saved and name not in whole]
    if beside:
        raise ModelFileError(f"{beside[0]} did not learn, but the rest of its module did; name all of it in tune.also")
    if shared := set(saved) & groups.keys():
        raise ModelFileError(f"{min(shared)} has an adapter and a bias that learnt, which peft cannot keep apart")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes files that only their owner may read
    write_json(folder / CONFIG, {**_config(config, list(groups), ranks, True in turned, base), **_saved(saved, model)})


def _whole(model: NetworkConfig, learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What learnt as a whole beside the adapters, by their names."""
    names = {name for name in learned if MARK not in name}
    try:
        return dict(huggingface_tensors(model, learned, names)) if names else {}
    except KeyError as error:
        raise ModelFileError(f"{error} is joined with what learnt, and did not learn itself") from None


def _saved(modules: list[str], model: NetworkConfig) -> dict[str, Any]:
    return {"modules_to_save": modules, "ensure_weight_tying": model.tied} if modules else {}


def _groups(model: NetworkConfig, learned: Mapping[str, Tensor]) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Path of a module of theirs -> our layers in it, in order, and whether its matrix is turned."""
    ours = {name.partition(MARK)[0] for name in learned if MARK in name}
    found: dict[str, tuple[tuple[str, ...], bool]] = {}
    for theirs, part in layout_of(model).parts(model).items():
        names = tuple(name.removesuffix(".weight") for name in part.ours)
        if not theirs.endswith(".weight") or not ours & set(names):
            continue
        if part.piece is not None or not ours >= set(names):
            raise ModelFileError(
                f"{theirs} joins layers with an adapter and others without; use tune.targets: [linear]"
            )
        found[theirs.removesuffix(".weight")] = (names, part.turned)
    return found


def _joined(adapters: list[Adapter]) -> dict[str, Tensor]:
    """The adapters of layers below each other as one."""
    made = {
        "down": torch.cat([each.down.detach() for each in adapters]),
        "up": torch.block_diag(*(each.up.detach() for each in adapters)),  # type: ignore[no-untyped-call]
    }
    lengths = [each.magnitude.detach() for each in adapters if each.magnitude is not None]
    return {**made, "magnitude": torch.cat(lengths)} if lengths else made


def _config(
    config: LowRankConfig, modules: list[str], ranks: Mapping[str, int], turned: bool, base: str | None
) -> dict[str, Any]:
    stretch = {module: config.alpha * _stretch(rank / config.rank, config) for module, rank in ranks.items()}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "use_dora": isinstance(config, DoRAConfig),
        "target_modules": modules,
        "rank_pattern": dict(ranks),
        "alpha_pattern": stretch,
        "fan_in_fan_out": turned,
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _stretch(times: float, config: LowRankConfig) -> float:
    """How much larger alpha is with `times` the rank, so that the scale stays."""
    return float(times**0.5) if config.rank_stabilised else times
