"""Contrastive and robust losses against the numbers of the original authors' code, float64, every case."""

import torch

from tailwise.losses.cross_entropy import CrossEntropyLoss
from tailwise.losses.group_dro import GroupDROLoss
from tailwise.losses.label_aware_contrastive import LabelAwareContrastiveLoss
from tailwise.losses.supervised_contrastive import SupervisedContrastiveLoss


def test_supervised_contrastive_loss(golden_tensors):
    walked = 0
    for name, setting, given, wanted in golden_tensors("supcon"):
        if "features_flat" in given:
            features, target = given["features_flat"], given["target_flat"]
        else:  # views one after the other; without labels a row is positive with its own views alone
            features = given["features"].transpose(0, 1).flatten(0, 1)
            labels = given.get("target", torch.arange(len(given["features"])))
            target = labels.repeat(given["features"].shape[1])
        features = features.clone().requires_grad_()
        loss = SupervisedContrastiveLoss(
            setting["temperature"], normalise=False, base_temperature=setting.get("base_temperature")
        )
        value = loss(torch.zeros(len(target), 2, dtype=torch.float64), target, features=features)
        gradient = torch.autograd.grad(value, features)[0]
        theirs = wanted["grad_features_f64"]
        if theirs.ndim == 3:
            theirs = theirs.transpose(0, 1).flatten(0, 1)
        torch.testing.assert_close(value.detach(), wanted["loss_f64"].reshape(()), rtol=1e-9, atol=0, msg=name)
        torch.testing.assert_close(gradient, theirs, rtol=1e-7, atol=1e-12, msg=name)
        walked += 1
    assert walked == 8


def test_label_aware_contrastive_loss(golden_tensors):
    walked = 0
    for name, setting, given, wanted in golden_tensors("label_aware_contrastive"):
        features, logits = given["features"].clone().requires_grad_(), given["weight_logits"].clone().requires_grad_()
        value = LabelAwareContrastiveLoss(setting["temperature"], normalise=False)(
            logits, given["target"], features=features
        )
        walked += 1
        if name == "no_positive":
            assert torch.isnan(wanted["loss_f64"]), "not a number by design of the original"
            assert torch.isfinite(value)
            continue
        by_features, by_logits = torch.autograd.grad(value, (features, logits))
        torch.testing.assert_close(value.detach(), wanted["loss_f64"].reshape(()), rtol=1e-9, atol=0, msg=name)
        torch.testing.assert_close(by_features, wanted["grad_features_f64"], rtol=1e-7, atol=1e-12, msg=name)
        torch.testing.assert_close(by_logits, wanted["grad_weight_logits_f64"], rtol=1e-7, atol=1e-12, msg=name)
    assert walked == 5


def test_group_dro(golden_tensors):
    walked = 0
    for name, setting, given, wanted in golden_tensors("group_dro"):
        walked += 1
        robust = GroupDROLoss(
            len(given["group_counts"]),
            step_size=setting["step_size"],
            adjustment=setting["adj"] or 0.0,
            group_counts=given["group_counts"],
            normalize_loss=setting["normalize_loss"],
            greedy=setting["btl"],
            alpha=setting["alpha"],
            momentum=setting["gamma"],
        )
        # Theirs, when it is not robust, is the mean of all rows: cross-entropy.
        loss = robust if setting["is_robust"] else CrossEntropyLoss()
        for step in range(len(given["logits"])):
            logits = given["logits"][step].clone().requires_grad_()
            value = loss(logits, given["target"][step], group=given["group"][step])
            gradient = torch.autograd.grad(value, logits)[0]
            what = f"{name}, step {step}"
            torch.testing.assert_close(value.detach(), wanted["loss_f64"][step], rtol=1e-9, atol=0, msg=what)
            torch.testing.assert_close(gradient, wanted["grad_logits_f64"][step], rtol=1e-7, atol=1e-12, msg=what)
            if setting["is_robust"] and not setting["btl"]:
                torch.testing.assert_close(
                    loss.weights, wanted["adv_probs_after"][step].double(), rtol=1e-9, atol=1e-12, msg=what
                )
    assert walked == 6
