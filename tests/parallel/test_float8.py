"""Hidden matrices in fp8: which layers, under which names, by which numbers; and where it is refused."""

from __future__ import annotations

import pytest
import torch

from groundup.errors import RecipeError, ResourceError
from groundup.models import DecoderConfig, EncoderConfig, LSTMConfig, Network, NetworkConfig, build_model, tuning
from groundup.parallel import float8, shard

pytest.importorskip("torchao")
VOCAB, TIME = 50, 20  # neither is a multiple of 16: tables stay as they are, rows times positions are padded
DECODER = DecoderConfig(
    context_length=TIME, num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=2, ffn_size=96, attention_bias="qkv"
)
ENCODER = EncoderConfig(
    kind="encoder", context_length=TIME, num_layers=2, hidden_size=64, num_heads=4, ffn_size=96, predicted_share=0.3
)
TOKENS = torch.randint(0, VOCAB, (3, TIME), generator=torch.Generator().manual_seed(0))
TARGETS = TOKENS.masked_fill(torch.arange(TIME) % 4 > 0, -100)


def made(config: NetworkConfig, converted: bool) -> Network:
    with torch.device("meta"):
        model = build_model(config, VOCAB)
    names = [name for name, _ in model.named_parameters()]
    if converted:
        layers = list(tuning.linear_layers(model))
        assert float8.convert(model, layers, emulate=True) == layers
        assert [name for name, _ in model.named_parameters()] == names, "in their order, too"
    shard.apply(model, mesh=None, compute_dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    model.initialise(0)
    return model


@pytest.mark.parametrize("config", [DECODER, ENCODER], ids=["decoder", "encoder"])
def test_a_converted_model_learns_nearly_what_the_other_does(config: NetworkConfig) -> None:
    found = []
    for converted in (True, False):
        model = made(config, converted)
        loss = model(TOKENS, targets=TARGETS)[0].sum()
        loss.backward()
        found.append((loss, {name: p.grad for name, p in model.named_parameters()}))
    (loss, gradients), (wanted, others) = found
    assert loss != wanted
    torch.testing.assert_close(loss, wanted, rtol=2e-2, atol=0)
    for name, other in others.items():
        if other is None or name.endswith("key.bias"):  # whose gradient is 0: it changes all scores of a query alike
            continue
        mine = gradients[name]
        assert mine is not None and mine.dtype == torch.float32, name
        likeness = torch.cosine_similarity(mine.flatten(), other.flatten(), dim=0)
        assert likeness > 0.9, (name, float(likeness))


def test_the_numbers_are_those_of_e4m3_scaled_by_the_largest() -> None:
    model = made(DECODER, True)
    layer = model.get_submodule("layers.0.ffn.up")
    x = torch.randn(7, 64, generator=torch.Generator().manual_seed(1)).bfloat16()

    def rounded(values: torch.Tensor) -> torch.Tensor:
        scale = 448 / values.float().abs().max()
        return (values.float() * scale).to(torch.float8_e4m3fn).float() / scale

    wanted = (rounded(x) @ rounded(layer.weight.detach()).T).bfloat16()  # type: ignore[arg-type, operator]
    torch.testing.assert_close(layer(x), wanted, rtol=1e-2, atol=1e-3)
    assert (wanted.float() - x.float() @ layer.weight.detach().T.float()).abs().max() > 1e-3  # type: ignore[operator]


def test_layers_with_odd_sides_stay_and_without_any_other_it_is_refused() -> None:
    with torch.device("meta"):
        model = build_model(DECODER.model_copy(update={"ffn_size": 90}), VOCAB)
        odd = build_model(DECODER.model_copy(update={"ffn_size": 90, "hidden_size": 24}), VOCAB)
    converted = float8.convert(model, list(tuning.linear_layers(model)))
    assert {name.split(".")[2] for name in converted} == {"attention"} and len(converted) == 8
    assert all(type(model.get_submodule(name)).__name__ == "Float8Linear" for name in converted)
    assert type(model.get_submodule("layers.0.ffn.up")).__name__ == "Linear"
    with pytest.raises(RecipeError, match=r"multiples of 16, and none of 14 is"):
        float8.convert(odd, list(tuning.linear_layers(odd)))


def test_a_machine_without_it_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match=r"fp8 needs a GPU that has it, and the device is cpu") as caught:
        float8.require(torch.device("cpu"))
    assert caught.value.exit_code == 6
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(ResourceError, match=r"NVIDIA A100 is of compute capability 8\.0, below 8\.9"):
        float8.require(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    float8.require(torch.device("cuda"))


def test_an_lstm_has_no_linear_layers() -> None:
    with torch.device("meta"):
        model = build_model(LSTMConfig(context_length=TIME, num_layers=2, hidden_size=64), VOCAB)
    assert list(tuning.linear_layers(model)) == []
