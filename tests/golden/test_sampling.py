"""Samplers against what the original authors' code draws: counts, probabilities and cycles, every case."""

import numpy as np

from tailwise.sampling import ClassAwareSampler, NaturalSampler, RandomOverSampler, RandomUnderSampler


def test_class_aware_sampler_has_the_invariants_of_the_original(golden):
    for name, setting, given, wanted in golden("class_aware_sampler"):
        labels, length, draws = given["labels"], int(wanted["length"]), setting["num_samples_cls"]
        sampler = ClassAwareSampler(labels, num_samples=length, samples_per_class=draws, seed=3)
        for plan in (sampler.plan(0), wanted["indices"]):  # ours, then theirs: the same facts hold of both
            assert plan.size == length, name
            drawn = labels[plan]
            histogram = np.bincount(drawn, minlength=len(wanted["class_histogram"]))
            assert histogram.sum() == wanted["class_histogram"].sum(), name
            assert np.ptp(histogram) <= draws, name
            cycle = draws * len(histogram)
            for start in range(0, length - cycle + 1, cycle):
                visited = drawn[start : start + cycle].reshape(-1, draws)
                assert (visited == visited[:, :1]).all(), name
                assert sorted(visited[:, 0]) == list(range(len(histogram))), name
            for label in range(len(histogram)):
                uses = np.bincount(plan[drawn == label], minlength=labels.size)[labels == label]
                assert np.ptp(uses) <= 1, name
        if draws == 1:
            ours = np.bincount(labels[sampler.plan(0)])
            np.testing.assert_array_equal(ours, wanted["class_histogram"], err_msg=name)


def test_natural_and_class_balanced_probabilities(golden):
    # "uniform" is the natural sampler, "balanced" the class-aware one; the mixtures of the
    # two are in test_sampling_mixtures.py.
    samplers = {"uniform": NaturalSampler, "balanced": ClassAwareSampler}
    waiting = set()
    for name, _, given, wanted in golden("sampling_weights"):
        if name not in samplers:
            waiting.add(name)
            continue
        prior = samplers[name](given["labels"]).effective_prior()
        np.testing.assert_allclose(prior, wanted["class_probability"][0], rtol=1e-10, err_msg=name)
        per_row = (prior / np.bincount(given["labels"]))[given["labels"]]
        np.testing.assert_allclose(per_row, wanted["example_probability"][0], rtol=1e-10, err_msg=name)
    assert waiting == {"sqrt", "root5", "progressive", "lam_half"}


def test_class_counts_after_over_and_under_sampling_equal_those_of_imbalanced_learn(golden):
    for name, _, given, wanted in golden("imblearn_resampling"):
        labels = given["y"]
        for sampler, key in (
            (RandomOverSampler(labels), "ros_indices"),
            (RandomUnderSampler(labels), "rus_indices"),
        ):
            theirs = np.bincount(labels[wanted[key]])
            np.testing.assert_array_equal(np.bincount(labels[sampler.plan(0)]), theirs, err_msg=f"{name} {key}")
        assert set(RandomOverSampler(labels).plan(0)) == set(range(labels.size)), name
        assert np.unique(RandomUnderSampler(labels).plan(0)).size == wanted["rus_indices"].size, name
