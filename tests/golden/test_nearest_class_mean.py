"""The class-means head against the numbers of the original authors' code, every case."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailwise.models.heads.class_means import ClassMeansHead

TRANSFORMS = {"un": "raw", "l2n": "l2", "cl2n": "centre-l2"}


@pytest.fixture(scope="session")
def cases(golden_dir):
    arrays = np.load(golden_dir / "nearest_class_mean.npz")
    described = json.loads((golden_dir / "nearest_class_mean.json").read_text())["cases"]
    return [
        (
            case["hyperparameters"],
            {k: torch.from_numpy(arrays[v["key"]]) for k, v in case["inputs"].items()},
            torch.from_numpy(arrays[case["outputs"]["logits"]["key"]]),
        )
        for case in described
    ]


def make_head(setting, given):
    """The head with the centroids and the centre of the original, which takes them as given."""
    classes, dim = given["centroids"].shape
    head = ClassMeansHead(dim, classes, transform=TRANSFORMS[setting["feat_type"]], scale=1.0).double()
    head.means.copy_(given["centroids"])
    head.centre.copy_(given["feat_mean"].flatten())
    head.counts.fill_(1.0)
    return head


def transformed(head, features):
    features = features - head.centre if head.transform == "centre-l2" else features
    return features if head.transform == "raw" else functional.normalize(features, dim=1)


def test_scores_are_the_negative_squared_distances_of_the_original_up_to_a_constant_per_row(cases):
    distances = [case for case in cases if case[0]["dist_type"] == "l2"]
    assert len(distances) == 2
    for setting, given, wanted in distances:
        head = make_head(setting, given)
        constant = transformed(head, given["features"]).square().sum(dim=1, keepdim=True)
        torch.testing.assert_close(head(given["features"]) - constant, wanted, rtol=1e-9, atol=1e-12)


def test_the_transform_of_features_is_that_of_the_original_for_dot_products_too(cases):
    ((setting, given, wanted),) = [case for case in cases if case[0]["dist_type"] == "cos"]
    head = make_head(setting, given)
    products = (head(given["features"]) + head.means.square().sum(dim=1)) / 2  # the original divides by the dimension
    torch.testing.assert_close(products / head.num_features, wanted, rtol=1e-9, atol=1e-12)
