import pytest
import torch

from safeeraser.models.mini_llava.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_singular_values_come_near_one_and_their_vectors_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(*shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonalised(matrix[None])[0]
    core = left.T @ made @ right.T
    assert ((core.diagonal() > 0.6) & (core.diagonal() < 1.3)).all()
    torch.testing.assert_close(core, torch.diag(core.diagonal()), atol=1e-4, rtol=0)


def test_a_step_is_the_orthogonalised_nesterov_momentum():
    """The momentum is m = .05 g, the direction .05 g + .95 m = .0975 g; its scale does not matter.

    The weight is decayed by 1 - .1 * .5 = .95, then moved by -.1 * sqrt(4 / 2) * orthogonalised(g).
    """
    torch.manual_seed(0)
    weight, gradient = torch.nn.Parameter(torch.randn(4, 2)), torch.randn(4, 2)
    expected = weight.detach() * 0.95 - 0.1 * 2**0.5 * orthogonalised(gradient[None])[0]
    weight.grad = gradient
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), expected)


def test_matrices_of_a_shape_do_not_touch_each_other():
    torch.manual_seed(0)
    gradients = torch.randn(3, 4, 2)
    together = [torch.nn.Parameter(torch.zeros(4, 2)) for _ in range(3)]
    optimizer = Muon(together, lr=0.1)
    for parameter, gradient in zip(together[:2], gradients, strict=False):
        parameter.grad = gradient
    optimizer.step()
    for parameter, gradient in zip(together[:2], gradients, strict=False):
        alone = torch.nn.Parameter(torch.zeros(4, 2))
        alone.grad = gradient
        Muon([alone], lr=0.1).step()
        torch.testing.assert_close(parameter, alone)
    assert (together[2] == 0).all()
