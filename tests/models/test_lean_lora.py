import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners import lora
from torch import Tensor, nn

from safeeraser import models
from safeeraser.config import LoraOptions
from safeeraser.models import adapters
from safeeraser.models.lean_lora import LeanLinear, draw_dropped, drop_, make_lean


class Two(nn.Module):
    """Two layers that read the same input, as q and k do, and one that follows, with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.o = nn.Linear(12, 8, bias=False), nn.Linear(12, 8, bias=False), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(torch.tanh(self.q(x)) * self.k(x))


def pair(dropout: float, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """PEFT's layers and lean ones with the same weights, in training."""
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, lora_dropout=dropout, target_modules=["q", "k", "o"])
    usual = get_peft_model(Two().to(dtype), config)
    for name, parameter in usual.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape) / 4
    lean = copy.deepcopy(usual)
    make_lean(lean)
    return usual.train(), lean.train()


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    out = model(x)
    (out.float() ** 2).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    return found | {"x": x.grad, "out": out.detach()}


@pytest.mark.parametrize("shape", [(7, 12), (2, 3, 12)])
def test_without_dropout_values_and_gradients_are_those_of_peft(shape: tuple[int, ...]) -> None:
    usual, lean = pair(dropout=0.0)
    x = torch.randn(shape)
    expected, found = gradients(usual, x), gradients(lean, x)
    assert len(found) == 2 + 6
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_under_autocast_gradients_of_the_weights_stay_in_float32() -> None:
    usual, lean = pair(dropout=0.0, dtype=torch.bfloat16)
    x = torch.randn(7, 12).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = gradients(usual, x), gradients(lean, x)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name].float(), value.float(), rtol=0.1, atol=0.1, msg=name)


def test_dropout_has_the_gradient_of_what_it_computed() -> None:
    """By finite differences in float64, with the same entries dropped each time."""
    _, lean = pair(dropout=0.5, dtype=torch.float64)
    lean = lean.double()
    weights = [parameter for parameter in lean.parameters() if parameter.requires_grad]

    def outcome(x: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(1)
        return lean(x)

    x = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outcome, (x, *weights))


def test_dropout_keeps_the_mean() -> None:
    """The mean of 4,000 draws is the value without dropout, within 5 standard errors."""
    _, lean = pair(dropout=0.3)
    layer, x = lean.base_model.model.q, torch.randn(1, 12)
    draws = torch.stack([layer(x).detach()[0] for _ in range(4000)])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - layer.eval()(x).detach()[0]).abs() < 5 * error).all()


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_each_entry_is_dropped_with_probability_p_independently(p: float) -> None:
    """2,000 draws of 100 entries: each entry's share, and that of neighbours both dropped, within 5 deviations."""
    torch.manual_seed(0)
    left = torch.stack([drop_(torch.ones(100), draw_dropped(torch.ones(100), p)) for _ in range(2000)])
    dropped = 1 - left
    deviation = (p * (1 - p) / 2000) ** 0.5
    assert ((dropped.mean(0) - p).abs() < 5 * deviation).all()
    both = (dropped[:, :-1] * dropped[:, 1:]).mean().item()
    assert both == pytest.approx(p * p, abs=0.01)


def test_the_same_seed_drops_the_same() -> None:
    drops = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drops.append(draw_dropped(torch.ones(1000), 0.5).tolist())
    assert drops[0] == drops[1] != drops[2]


def test_a_mask_as_gpus_have_it_drops_the_same() -> None:
    places, values = torch.tensor([1, 2]), torch.arange(6.0).view(2, 3) + 1
    kept = torch.tensor([[True, False, False], [True, True, True]])
    assert torch.equal(drop_(values.clone(), places), drop_(values.clone(), kept))


def test_autograd_keeps_less_than_with_peft() -> None:
    kept = []
    for model in pair(dropout=0.05):
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = model(torch.randn(500, 12))
        kept.append(sum(sizes.values()))
        del out
    assert kept[1] < 0.8 * kept[0]


def test_only_training_with_one_plain_adapter_is_different() -> None:
    """Evaluation, a disabled adapter and several adapters go PEFT's way, to the bit."""
    usual, lean = pair(dropout=0.5)
    x = torch.randn(4, 12)
    with usual.disable_adapter(), lean.disable_adapter():
        assert torch.equal(usual(x), lean(x))
    assert torch.equal(usual.eval()(x), lean.eval()(x))
    assert not torch.equal(lean.train()(x), lean.eval()(x))


def test_a_layer_of_another_kind_stays_as_it_is() -> None:
    config = LoraConfig(r=3, use_dora=True, target_modules=["q"])
    model = get_peft_model(Two(), config)
    plain = model.train()(torch.ones(2, 12))
    make_lean(model)
    assert torch.equal(model(torch.ones(2, 12)), plain)


def test_weights_are_saved_and_merged_as_ever(tmp_path: Path) -> None:
    vlm = adapters.attach(models.load("mini-llava"), LoraOptions(rank=4))
    make_lean(vlm.model)
    layers = [module for module in vlm.model.modules() if isinstance(module, lora.Linear)]
    assert len(layers) == 21 and all(isinstance(layer, LeanLinear) for layer in layers)
    torch.nn.init.normal_(layers[0].lora_B["default"].weight)
    adapters.save(vlm, tmp_path, {})
    again = adapters.load(models.load("mini-llava"), tmp_path)
    assert torch.equal(
        again.model.get_submodule(name_of(vlm, layers[0])).lora_B["default"].weight, layers[0].lora_B["default"].weight
    )
    delta = layers[0].get_delta_weight("default")
    base = layers[0].base_layer.weight.clone()
    merged = adapters.merge(vlm)
    assert any(torch.allclose(p, base + delta) for p in merged.model.parameters() if p.shape == base.shape)


def name_of(vlm: models.VisionLanguageModel, module: nn.Module) -> str:
    return next(name for name, other in vlm.model.named_modules() if other is module)
