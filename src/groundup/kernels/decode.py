"""Tensors of a decoder -> the same packed for `decode.cpp`, which advances many sequences by one call.

    tensors by their Hugging Face names --pack--> PackedDecoder --room(slots, time)--> Room --advance(spans)--> logits

Weights are kept as bfloat16 when computing in it or when that loses nothing (a file in bfloat16), else as float32.
Invariant: what a sequence gets depends on its own tokens only: neither on the sequences beside it, nor on how its
tokens are divided over calls, nor on the number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from groundup.kernels import build

LIBRARY = "decode"
MAX_HEAD_DIM = 256
WIDTH = 32
"""Outputs side by side in a packed matrix, as in decode.cpp."""
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class DecoderShape:
    """The sizes of a decoder in the Llama layout, or Qwen3's with `qk_norm`."""

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    vocab_size: int
    epsilon: float
    qk_norm: bool
    tied: bool

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of such a decoder."""
        hidden, ffn = self.hidden_size, self.ffn_size
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        layer: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (ffn, hidden),
            "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        if self.qk_norm:
            layer |= {"self_attn.q_norm": (self.head_dim,), "self_attn.k_norm": (self.head_dim,)}
        named = {
            f"model.layers.{i}.{name}.weight": size for i in range(self.num_layers) for name, size in layer.items()
        }
        tables = {EMBEDDING: (self.vocab_size, hidden)} | ({} if self.tied else {HEAD: (self.vocab_size, hidden)})
        return {**named, **tables, "model.norm.weight": (hidden,)}


class Span(NamedTuple):
    """New tokens of one sequence: they are written into `slot` from position `start`."""

    slot: int
    start: int
    tokens: Sequence[int]


class _Layer(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_void_p)
        for name in ("qkv", "output", "gate_up", "down", "attention_norm", "ffn_norm", "query_norm", "key_norm")
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "ffn_size", "vocab_size")
        ),
        *((name, ctypes.c_int64) for name in ("weight_bits", "compute_bits")),
        ("epsilon", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("embedding", "norm", "head", "layers")),
    ]


class _Cache(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("keys", "values", "cosines", "sines")),
        *((name, ctypes.c_int64) for name in ("slots", "max_time", "threads")),
    ]


def obstacle(shape: DecoderShape, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> str | None:
    """Why this decoder cannot be packed here, in words for people; None when it can."""
    if shape.head_dim > MAX_HEAD_DIM or shape.head_dim % 2:
        return f"head_dim {shape.head_dim} is not an even number up to {MAX_HEAD_DIM}"
    if dtype not in (torch.bfloat16, torch.float32):
        return f"{dtype} is neither bfloat16 nor float32"
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shape.tensors():
        return "it has other tensors than a decoder of this layout"
    if not all(
        type(t.data) is Tensor and t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors.values()
    ):
        return "its weights are not float32 on the CPU"
    return build.obstacle(LIBRARY)


class PackedDecoder:
    """Weights of a decoder in the form that `decode.cpp` reads, copied; only vectors and the embedding are shared.

    Ask `obstacle` first. `dtype` is what it computes in, bfloat16 or float32 (sums are float32 in both).
    """

    def __init__(self, shape: DecoderShape, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        library = build.library(LIBRARY)
        assert library is not None, "asked by `obstacle`"
        self._library = _declared(library)
        self.shape, self.dtype = shape, dtype
        self._kept: list[Tensor] = []
        self._tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        self.weight_bits = 16 if dtype == torch.bfloat16 or all(map(_is_bfloat16, self._matrices())) else 32
        self._layers = (_Layer * shape.num_layers)(*(self._layer(i) for i in range(shape.num_layers)))
        self._model = self._outer()
        del self._tensors

    def _matrices(self) -> list[Tensor]:
        """All that is multiplied by; the embedding is only when it is the output matrix as well."""
        used = [tensor for name, tensor in self._tensors.items() if self.shape.tied or name != EMBEDDING]
        return [tensor for tensor in used if tensor.ndim == 2]

    def _outer(self) -> _Model:
        shape, table = self.shape, self._tensors[EMBEDDING]
        head = table if shape.tied else self._tensors[HEAD]
        sizes = (shape.num_layers, shape.hidden_size, shape.num_heads, shape.num_kv_heads, shape.head_dim)
        bits = (self.weight_bits, 8 * self.dtype.itemsize)
        pointers = (
            self._keep(table),
            self._vector("model.norm"),
            self._packed([head]),
            ctypes.addressof(self._layers),
        )
        return _Model(*sizes, shape.ffn_size, shape.vocab_size, *bits, shape.epsilon, *pointers)

    def _layer(self, index: int) -> _Layer:
        def matrices(part: str, names: str) -> list[Tensor]:
            return [self._tensors[f"model.layers.{index}.{part}.{name}_proj.weight"] for name in names.split()]

        prefix = f"model.layers.{index}"
        return _Layer(
            self._packed(matrices("self_attn", "q k v")),
            self._packed(matrices("self_attn", "o")),
            self._packed(matrices("mlp", "gate up"), interleaved=True),
            self._packed(matrices("mlp", "down")),
            self._vector(f"{prefix}.input_layernorm"),
            self._vector(f"{prefix}.post_attention_layernorm"),
            self._vector(f"{prefix}.self_attn.q_norm") if self.shape.qk_norm else None,
            self._vector(f"{prefix}.self_attn.k_norm") if self.shape.qk_norm else None,
        )

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _vector(self, name: str) -> int:
        return self._keep(self._tensors[f"{name}.weight"])

    def _packed(self, matrices: list[Tensor], interleaved: bool = False) -> int:
        """Matrices [outputs, inputs] as one packed matrix: one behind the other, or 16 outputs of each in turn."""
        inputs = matrices[0].shape[1]
        outputs = sum(_round_up(m.shape[0], 16) if interleaved else m.shape[0] for m in matrices)
        dtype = torch.bfloat16 if self.weight_bits == 16 else torch.float32
        packed = _allocated(self._library, self._library.decode_packed_size(outputs, inputs), dtype).zero_()
        offset = 0
        for matrix in matrices:
            step = 16 * len(matrices) if interleaved else 16
            self._library.decode_pack(
                matrix.data_ptr(), *matrix.shape, packed.data_ptr(), self.weight_bits, offset, step
            )
            offset += 16 if interleaved else matrix.shape[0]
        return self._keep(packed)

    def slot_bytes(self, max_time: int) -> int:
        """Memory of the keys and values of one sequence of up to `max_time` tokens."""
        return self.shape.num_layers * self.dtype.itemsize * sum(self._slot_sizes(_round_up(max_time, WIDTH)))

    def _slot_sizes(self, max_time: int) -> tuple[int, int]:
        """Numbers of keys and of values of one sequence in one layer."""
        keys, values = (self._library.decode_cache_size(ctypes.byref(self._model), max_time, which) for which in (0, 1))
        return keys, values

    def room(
        self,
        slots: int,
        max_time: int,
        max_rows: int,
        cosines: Float[Tensor, "max_time half"],
        sines: Float[Tensor, "max_time half"],
    ) -> Room:
        """Room for `slots` sequences of up to `max_time` tokens, `max_rows` new tokens a call, with rotary tables."""
        return Room(self, slots, max_time, max_rows, cosines, sines)


@dataclass
class Room:
    """Keys and values of the sequences under way, and the memory that a call works in."""

    decoder: PackedDecoder
    slots: int
    max_time: int
    max_rows: int
    cosines: Float[Tensor, "max_time half"]
    sines: Float[Tensor, "max_time half"]
    _buffers: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        decoder, library, time = self.decoder, self.decoder._library, _round_up(self.max_time, WIDTH)
        shape, threads = decoder.shape, torch.get_num_threads()
        sizes = [shape.num_layers * self.slots * size for size in decoder._slot_sizes(time)]
        keys, values = (_allocated(library, size, decoder.dtype) for size in sizes)
        tables = [table.float().contiguous() for table in (self.cosines, self.sines)]
        scratch_bytes = library.decode_scratch_bytes(ctypes.byref(decoder._model), self.max_rows, time, threads)
        self._scratch = _allocated(library, scratch_bytes, torch.uint8)
        self._logits = torch.empty(0, 0)
        self._buffers = [keys, values, *tables]
        self._cache = _Cache(*(buffer.data_ptr() for buffer in self._buffers), self.slots, time, threads)

    def advance(self, spans: Sequence[Span]) -> Float[Tensor, "spans vocab"]:
        """Write the new tokens into the cache -> float32 logits behind the last token of each span.

        They hold until the next call. A slot is in at most one span. Raises ValueError for spans that do not fit, or an
        unknown token.
        """
        self._check(spans)
        table = np.array([(span.slot, span.start, len(span.tokens)) for span in spans], dtype=np.int64)
        tokens = np.array([token for span in spans for token in span.tokens], dtype=np.int64)
        vocab_size = self.decoder.shape.vocab_size
        if tokens.min() < 0 or tokens.max() >= vocab_size:
            raise ValueError(f"token ids reach {tokens.min()} to {tokens.max()}: ids are 0 to {vocab_size - 1}")
        # Fresh memory is dear: the kernel has to clear it.
        if len(self._logits) < len(spans):
            self._logits = torch.empty(len(spans), _round_up(vocab_size, WIDTH))
        self.decoder._library.decode_advance(
            ctypes.byref(self.decoder._model),
            ctypes.byref(self._cache),
            table.ctypes.data,
            len(spans),
            tokens.ctypes.data,
            self._scratch.data_ptr(),
            self._logits.data_ptr(),
            self._logits.shape[1],
        )
        return self._logits[: len(spans), :vocab_size]

    def _check(self, spans: Sequence[Span]) -> None:
        rows = sum(len(span.tokens) for span in spans)
        if not spans or rows > self.max_rows or len({span.slot for span in spans}) < len(spans):
            raise ValueError(f"{len(spans)} spans of {rows} tokens: give 1 to {self.max_rows} tokens, a slot only once")
        for span in spans:
            end = span.start + len(span.tokens)
            if not (0 <= span.slot < self.slots and 0 <= span.start < end <= self.max_time):
                raise ValueError(
                    f"positions {span.start} to {end} of slot {span.slot} do not fit {self.slots} slots of "
                    f"{self.max_time} positions"
                )


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions, so that no address is cut to 32 bits."""
    address, number = ctypes.c_void_p, ctypes.c_int64
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "decode_large_pages": (None, [address, number]),
        "decode_packed_size": (number, [number, number]),
        "decode_pack": (None, [address, number, number, address, number, number, number]),
        "decode_cache_size": (number, [address, number, number]),
        "decode_scratch_bytes": (number, [address, number, number, number]),
        "decode_advance": (None, [address, address, address, number, address, address, address, number]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _allocated(library: ctypes.CDLL, size: int, dtype: torch.dtype) -> Tensor:
    tensor = torch.empty(size, dtype=dtype)
    library.decode_large_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor


def _is_bfloat16(tensor: Tensor) -> bool:
    """True when bfloat16 holds every number exactly: the lower halves of all float32 are zero."""
    return not bool((tensor.view(torch.int32) & 0xFFFF).any())


def _round_up(number: int, to: int) -> int:
    return -(-number // to) * to
