"""Post-hoc steps against the numbers of the original authors' code, every case."""

import numpy as np

from tailwise.posthoc import FitContext, LogitAdjustment, TauNorm


def accuracy(target, predicted):
    return float((target == predicted).mean())


def test_tau_norm_gives_the_weights_and_scores_of_the_original(golden):
    for name, setting, given, wanted in golden("tau_norm"):
        weight, features = given["weight"], given["features"]
        bias = np.linspace(-1.0, 2.0, len(weight))  # dropped, as in the original
        logits = features @ weight.T + bias
        context = FitContext(np.full(len(weight), 1 / len(weight)), accuracy, weight, bias)
        step = TauNorm(setting["tau"]).fit(logits, np.zeros(len(logits), dtype=np.int64), context)
        np.testing.assert_allclose(step(logits), wanted["logits"], rtol=1e-10, atol=1e-12, err_msg=name)
        folded, no_bias = step.fold(weight, bias)
        np.testing.assert_allclose(folded, wanted["normalised_weight"], rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(no_bias, 0.0, atol=1e-12, err_msg=name)


def test_logit_adjustment_gives_the_scores_of_the_original(golden):
    for name, setting, given, wanted in golden("logit_adjustment"):
        logits, prior = given["logits"], given["prior"]
        step = LogitAdjustment(setting["tau"]).fit(logits, given["target"], FitContext(prior, accuracy))
        # The original adds 1e-12 to prior^tau inside the logarithm, which moves a score by 1e-12 / prior^tau.
        allowed = 1.01e-12 / prior.min() ** setting["tau"] + 1e-12
        np.testing.assert_allclose(step(logits), wanted["posthoc_logits_f64"], rtol=1e-12, atol=allowed, err_msg=name)
