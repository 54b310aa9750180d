"""Vector-scaling and influence-balanced loss against the authors' code: value and gradient, float64, every case."""

import numpy as np
import pytest
import torch

from tailwise.losses.influence_balanced import InfluenceBalancedLoss, RescaledInfluenceBalancedLoss
from tailwise.losses.vector_scaling import VectorScalingLoss


@pytest.fixture(scope="module")
def cases(golden_tensors, golden):
    def read(method, number):
        found = [
            (n, s, given, wanted)
            for (n, s, given, _), (*_, wanted) in zip(golden_tensors(method), golden(method), strict=True)
        ]
        assert len(found) == number
        assert all(setting["reduction"] == "mean" for _, setting, *_ in found)
        return found

    return read


def test_vector_scaling_loss(cases):
    for name, setting, given, wanted in cases("vs_loss", 10):
        loss = VectorScalingLoss(given["class_counts"], scaling_power=setting["gamma"], strength=setting["tau"])
        logits = given["logits"].requires_grad_()
        value = loss(logits, given["target"])
        (gradient,) = torch.autograd.grad(value, logits)
        np.testing.assert_allclose(value.item(), wanted["loss_f64"], rtol=1e-10, err_msg=name)
        np.testing.assert_allclose(gradient, wanted["grad_logits_f64"], rtol=1e-9, atol=1e-14, err_msg=name)


def test_influence_balanced_loss(cases):
    differing = 0
    for name, setting, given, wanted in cases("influence_balanced", 10):
        options = {"eps": setting["epsilon"], "focus": setting["gamma"] or 0.0, "class_weights": None}
        # The authors' code takes the norms; a feature vector of one positive number is its own norm.
        logits, features = given["logits"].requires_grad_(), given["feature_l1"][:, None].requires_grad_()
        value = InfluenceBalancedLoss(setting["alpha"], detach_influence=False, **options)(
            logits, given["target"], features=features
        )
        by_logits, by_features = torch.autograd.grad(value, (logits, features))
        np.testing.assert_allclose(value.item(), wanted["loss_f64"], rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(by_logits, wanted["grad_logits_f64"], rtol=1e-7, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(
            by_features.squeeze(1), wanted["grad_feature_l1_f64"], rtol=1e-7, atol=1e-12, err_msg=name
        )
        # With the influence as a constant the value is the same and the gradient is not.
        constant = InfluenceBalancedLoss(setting["alpha"], **options)(logits, given["target"], features=features)
        np.testing.assert_allclose(constant.item(), wanted["loss_f64"], rtol=1e-9, err_msg=name)
        gradient = torch.autograd.grad(constant, logits)[0]
        differing += not np.allclose(gradient, wanted["grad_logits_f64"], rtol=1e-3)
        # Rescaled, it is the loss over its mean factor.
        del options["class_weights"]
        rescaled = RescaledInfluenceBalancedLoss(class_weights=None, **options)(
            logits, given["target"], features=features
        )
        probability = torch.softmax(logits, dim=1).gather(1, given["target"][:, None]).squeeze(1)
        factor = setting["alpha"] / (2 * (1 - probability) * given["feature_l1"] + setting["epsilon"])
        np.testing.assert_allclose(rescaled.item(), wanted["loss_f64"] / factor.mean().item(), rtol=1e-9, err_msg=name)
    assert differing == 10
