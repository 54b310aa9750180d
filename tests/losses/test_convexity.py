"""Which losses are convex in the logits: those that say so are, those that do not are not, or there is a reason."""

import copy
import warnings

import numpy as np
import pytest
import torch

from tailwise.losses import LOSSES

CLASSES = 4
COUNTS = [50, 9, 3, 20]
#: settings besides the defaults, and whether they are convex
SETTINGS = [
    ("ce", {"label_smoothing": 0.2}, True),
    ("wce", {"label_smoothing": 0.2}, True),
    ("vs", {"class_weights": "balanced", "scaling_power": 1.0}, True),
    ("ldam", {"scale": 1.0}, True),
    ("mom", {"strength": 3.0}, True),
    ("focal", {"focus": 0.0}, True),
    ("focal", {"focus": 0.5}, False),
    ("focal-sigmoid", {"focus": 0.0}, True),
    ("poly-1", {"epsilon": -1.0}, True),
    ("poly-1", {"epsilon": 1.2}, False),
    ("poly-1", {"focus": 1.0}, False),
    ("asl-single", {"positive_focus": 0.0, "negative_focus": 0.0}, True),
    ("asl-single", {"positive_focus": 1.0}, False),
    ("confusion-aware", {"reg_weight": 0.0}, True),
    ("ml-focal", {"focus": 0.0, "alpha": 0.3}, True),
    ("ml-focal", {"focus": 3.0, "alpha": 0.3, "star": True}, True),
    ("db", {"focus": 0.0}, True),
    ("db", {"focus": 0.5}, False),
    ("asl", {"positive_focus": 0.0, "negative_focus": 0.0, "clip": 0.0}, True),
    ("asl", {"positive_focus": 0.0, "negative_focus": 0.0, "clip": 0.05}, False),
    ("bp-mll", {"activation": "tanh"}, False),
    ("bp-mll", {"log": False, "activation": "sigmoid"}, False),
]
#: convex at midpoints, and yet not said to be
REASONS = {
    "asl-single": "no counter-example is known without a focus of the positives, and no proof",
    "ranking": "has kinks, on which the best head lies",
    "weighted-sum": "has several denominators and no values by row",
}


def made(name, **settings):
    known = {
        "class_counts": COUNTS,
        "cell_counts": [[n, 2 * n, n + 1] for n in COUNTS],
        "num_rows": 2 * sum(COUNTS),
        "num_classes": CLASSES,
        "num_groups": 3,
        "catch_all": 0,
    }
    if name == "weighted-sum":
        return LOSSES[name](losses=[LOSSES["ce"](), LOSSES["wce"](class_counts=COUNTS)])
    given = {key: value for key, value in known.items() if key in LOSSES.parameters(name)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LOSSES[name](**{**given, **settings})


def is_by_row(loss):
    """Whether the values depend on logits and targets of their rows alone."""
    return loss.separable and not (loss.requires_features or loss.requires_group or loss.stateful)


def largest_rise(loss, rows=20_000):
    """How far a value at a midpoint lies above the mean of the values at the ends, at the most."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.3, 3.0, 10.0]).repeat_interleave(rows)[:, None]
    start, end = (spread * torch.randn(3 * rows, CLASSES, generator=generator).double() for _ in range(2))
    end = torch.where(torch.rand(3 * rows, CLASSES, generator=generator) < 0.5, start, end)  # along few classes too
    gold = torch.randint(CLASSES, (3 * rows,), generator=generator)
    labels = (torch.rand(3 * rows, CLASSES, generator=generator) < 0.4).long()
    bare = copy.copy(loss)
    bare.reduction = "none"
    low, middle, high = (bare(z, labels if loss.multilabel else gold) for z in (start, (start + end) / 2, end))
    rise = middle - (low + high) / 2
    return float((rise / (1.0 + low.abs() + high.abs())).max())


def check(loss, name):
    if loss.convex:
        assert is_by_row(loss)
        assert largest_rise(loss) < 1e-9
    elif is_by_row(loss) and name not in REASONS:
        assert largest_rise(loss) > 1e-6


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_convex_at_midpoints_if_and_only_if_it_says_so(name):
    check(made(name), name)


@pytest.mark.parametrize(("name", "settings", "convex"), SETTINGS)
def test_settings_decide_whether_a_loss_is_convex(name, settings, convex):
    loss = made(name, **settings)
    assert loss.convex is convex
    check(loss, "")


def test_the_cross_entropies_and_the_label_losses_without_focus_are_convex():
    convex = {name for name in LOSSES if made(name).convex}
    assert convex == {
        "ce", "wce", "balanced-softmax", "logit-adjusted", "vs", "ldam", "poly-1", "catch-all-wce", "mom",
        "bce", "wbce", "pos-bce", "ml-ldam", "bp-mll", "lsep", "zlpr",
    }  # fmt: skip


def test_ranking_has_values_below_their_chords_although_it_does_not_say_so():
    assert largest_rise(made("ranking")) < 1e-9
    assert largest_rise(made("ranking", top_k=2, catch_all=None)) < 1e-9


@pytest.mark.parametrize("name", [name for name in LOSSES if made(name).convex])
def test_a_written_form_is_there_for_every_cross_entropy(name):
    loss = made(name)
    written = loss.softmax_form(CLASSES) or loss.sigmoid_form()
    assert (written is None) == (name in {"poly-1", "bp-mll", "lsep", "zlpr"})


def test_a_cross_entropy_of_logits_that_a_subclass_changes_has_no_written_form():
    class Cubed(LOSSES["ce"]):
        def adjusted(self, logits, target):
            return logits**3

    assert Cubed().softmax_form(CLASSES) is None
    assert np.isfinite(float(Cubed()(torch.zeros(1, CLASSES), torch.zeros(1, dtype=torch.long))))
