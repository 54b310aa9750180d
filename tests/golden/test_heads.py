"""Heads against the numbers of the original authors' code."""

import json

import numpy as np
import torch
from torch.nn import functional

from tailwise.models.heads.class_means import ClassMeansHead

TRANSFORMS = {"un": "raw", "l2n": "l2", "cl2n": "centre-l2"}


def test_nearest_class_mean_by_squared_distance(golden_dir):
    arrays = np.load(golden_dir / "nearest_class_mean.npz")
    without = set()
    for case in json.loads((golden_dir / "nearest_class_mean.json").read_text())["cases"]:
        if case["hyperparameters"]["dist_type"] != "l2":
            without.add(case["case"])
            continue
        features, means, centre = (
            torch.from_numpy(arrays[case["inputs"][k]["key"]]) for k in ("features", "centroids", "feat_mean")
        )
        transform = TRANSFORMS[case["hyperparameters"]["feat_type"]]
        head = ClassMeansHead(features.shape[1], len(means), transform=transform, scale=1.0).double()
        head.load_state_dict({"centre": centre, "means": means, "counts": torch.ones(len(means))})
        # The head leaves out |phi(f)|^2, which is the same for every class.
        phi = features - centre if transform == "centre-l2" else features
        phi = functional.normalize(phi, dim=1) if transform != "raw" else phi
        found = head(features) - phi.square().sum(dim=1, keepdim=True)
        wanted = arrays[case["outputs"]["logits"]["key"]]
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-12, err_msg=case["case"])
    assert without == {"l2n_cos"}  # the original's dot product over D, which it calls cosine, is no head of ours
