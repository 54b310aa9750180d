"""Class distributions against those of the original authors' code, every case of the file."""

import json

import numpy as np

from tailwise.sampling.class_aware import ClassAwareSampler
from tailwise.sampling.natural import NaturalSampler
from tailwise.sampling.power import PowerSampler
from tailwise.sampling.progressive import ProgressiveSampler

BUILT = {
    "uniform": NaturalSampler,
    "balanced": ClassAwareSampler,
    "sqrt": PowerSampler,
    "root5": lambda labels: PowerSampler(labels, temperature=5.0),
    "lam_half": lambda labels: PowerSampler(labels, interpolation=0.5),
}


def test_class_and_example_probabilities_of_every_case(golden_dir):
    arrays = np.load(golden_dir / "sampling_weights.npz")
    cases = json.loads((golden_dir / "sampling_weights.json").read_text())["cases"]
    assert {case["case"] for case in cases} == {*BUILT, "progressive"}
    for case in cases:
        name, setting = case["case"], case["hyperparameters"]
        labels = arrays[case["inputs"]["labels"]["key"]]
        counts = np.bincount(labels)
        of_class = arrays[case["outputs"]["class_probability"]["key"]]
        of_row = arrays[case["outputs"]["example_probability"]["key"]]
        for place, epoch in enumerate(setting["epochs_evaluated"]):
            if name == "progressive":
                prior = ProgressiveSampler(labels, num_epochs=setting["epochs"]).shares(epoch)
            else:
                prior = BUILT[name](labels).effective_prior()
            np.testing.assert_allclose(prior, of_class[place], rtol=1e-10, err_msg=name)
            np.testing.assert_allclose((prior / counts)[labels], of_row[place], rtol=1e-10, err_msg=name)
