"""AdamW over stacked parameters is torch's AdamW, head by head."""

import pytest
import torch

from tailwise.training.probe_optimiser import StackedAdamW
from tailwise.training.probe_stacks import StackedParameter


@pytest.mark.parametrize("shape", [(4, 3), (5,)])
def test_every_head_moves_as_torch_adamw_moves_it(shape):
    generator = torch.Generator().manual_seed(0)
    rates, decays = [1e-3, 1e-2, 0.3], [0.0, 0.1, 0.5]
    value = torch.randn(3, *shape, generator=generator)
    alone = [torch.nn.Parameter(v.clone()) for v in value]
    theirs = [
        torch.optim.AdamW([p], lr=rate, weight_decay=decay) for p, rate, decay in zip(alone, rates, decays, strict=True)
    ]
    stacked = StackedParameter(value, torch.empty_like(value), value)
    ours = StackedAdamW([stacked], rates, decays)
    for step in range(50):
        gradient = torch.randn(value.shape, generator=generator) * 10.0 ** (step % 7 - 5)
        stacked.gradient.copy_(gradient)
        share = 1.0 / (1 + step)
        ours.step(share)
        for parameter, optimiser, rate, g in zip(alone, theirs, rates, gradient, strict=True):
            optimiser.param_groups[0]["lr"] = rate * share
            parameter.grad = g.clone()
            optimiser.step()
    torch.testing.assert_close(value, torch.stack([p.detach() for p in alone]), rtol=1e-5, atol=1e-6)


def test_decay_acts_only_where_it_should():
    value = torch.ones(2, 3, 4)
    parameter = StackedParameter(value, torch.zeros_like(value), value[:, :2])
    StackedAdamW([parameter], [0.1, 0.1], [0.5, 0.0]).step(1.0)
    assert torch.allclose(value[0, :2], torch.tensor(0.95))
    assert torch.equal(value[0, 2], torch.ones(4))
    assert torch.equal(value[1], torch.ones(3, 4))
