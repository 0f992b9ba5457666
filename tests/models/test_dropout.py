import pytest
import torch
from torch import nn

from safeeraser.models.dropout import CheapDropout, make_cheap


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_it_drops_the_share_keeps_the_mean_and_passes_the_gradient_of_what_is_left(p: float) -> None:
    """200,000 entries: the share is within 5 standard deviations, sqrt(p (1 - p) / 200,000) each."""
    torch.manual_seed(0)
    values = torch.full((200, 1001), 3.0, requires_grad=True)
    dropped = CheapDropout(p)(values)
    left = dropped != 0
    assert (~left).float().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / left.numel()) ** 0.5)
    assert dropped[left].unique().tolist() == pytest.approx([3 / (1 - p)], rel=1e-3)
    dropped.sum().backward()
    assert torch.equal(values.grad, torch.where(left, dropped.detach() / 3, 0.0))


def test_neighbours_are_dropped_independently() -> None:
    """Four entries share a random word: pairs of them are dropped as often as chance has it, p squared."""
    torch.manual_seed(0)
    dropped = (CheapDropout(0.5)(torch.ones(100_000, 4)) == 0).float()
    for first in range(4):
        for second in range(first):
            both = (dropped[:, first] * dropped[:, second]).mean().item()
            assert both == pytest.approx(0.25, abs=0.01)


def test_without_training_or_share_nothing_changes() -> None:
    values = torch.randn(7)
    assert CheapDropout(0.0)(values) is values
    assert CheapDropout(0.5).eval()(values) is values


def test_the_same_seed_drops_the_same() -> None:
    drops = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drops.append(CheapDropout(0.5)(torch.ones(1000)))
    assert torch.equal(drops[0], drops[1]) and not torch.equal(drops[0], drops[2])


def test_every_dropout_of_a_model_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"default": nn.Dropout(0.1)})["default"], nn.Identity())
    make_cheap(model)
    assert [type(module) for module in model] == [nn.Linear, CheapDropout, nn.Identity]
    assert model[1].p == 0.1
