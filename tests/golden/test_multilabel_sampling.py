"""Multi-label measures and samplers against what the released implementations give, every case.

Random numbers of R and torch are not ours: where rows are drawn, the facts that hold of the original are checked on the
original and on ours alike, and where the original departs from its paper the test says how.
"""

import numpy as np
import pytest
from scipy import sparse

from tailwise.imbalance.multilabel_measures import (
    as_label_matrix,
    cardinality,
    cvir,
    density,
    irlbl,
    label_counts,
    label_scumble,
    label_scumble_cv,
    label_set_measures,
    mean_ir,
    row_scumble,
    scumble,
    scumble_cv,
    theoretical_complexity,
)
from tailwise.sampling.class_aware_multilabel import ClassAwareMultiLabelSampler, co_drawn
from tailwise.sampling.label_matrix import label_sets, minority_labels
from tailwise.sampling.label_powerset import LabelPowersetOverSampler
from tailwise.sampling.multilabel_random import MultiLabelRandomOverSampler, MultiLabelRandomUnderSampler
from tailwise.sampling.remedial import remedial
from tailwise.sampling.repeat_factor import RepeatFactorSampler


def multiset(rows):
    return sorted(map(tuple, np.asarray(rows).tolist()))


def test_measures_equal_those_of_mldr(golden):
    for name, setting, given, wanted in golden("multilabel_imbalance_measures"):
        matrix = as_label_matrix(given["target"])
        counts, sets = label_counts(matrix), label_set_measures(matrix)
        ours = {
            "count": counts,
            "irlbl": irlbl(counts, legacy_empty=True),
            "scumble_label": label_scumble(matrix, legacy_empty=True),
            "scumble_cv_label": label_scumble_cv(matrix),
            "instance_scumble": row_scumble(matrix),
            "labelcount": np.diff(matrix.indptr),
            "labelset_counts": sets.sizes,
            "cvir_own": cvir(counts, legacy_empty=True),
            "num_instances": matrix.shape[0],
            "num_inputs": setting["num_inputs"],
            "num_attributes": setting["num_inputs"] + matrix.shape[1],
            "num_labels": matrix.shape[1],
            "num_labelsets": sets.number,
            "num_single_labelsets": sets.single,
            "max_frequency": sets.largest,
            "cardinality": cardinality(matrix),
            "density": density(matrix),
            "meanir": mean_ir(counts, legacy_empty=True),
            "scumble": scumble(matrix),
            "scumble_cv": scumble_cv(matrix),
            "tcs": theoretical_complexity(matrix, setting["num_inputs"]),
        }
        assert ours.keys() == wanted.keys(), name
        for key, value in ours.items():
            np.testing.assert_allclose(value, wanted[key], rtol=1e-9, err_msg=f"{name} {key}")
        if counts.min() == 0:  # the quirk: without it the absent label takes no part
            present = wanted["irlbl"][counts > 0]
            assert mean_ir(counts) == pytest.approx(present.mean()) != wanted["meanir"]
            assert cvir(counts) == pytest.approx(present.std(ddof=1) / present.mean())


def test_remedial_gives_the_rows_of_mldr(golden):
    for name, _, given, wanted in golden("multilabel_resampling"):
        counts = given["target"].sum(axis=0)
        assert mean_ir(counts, legacy_empty=True) == pytest.approx(wanted["mean_ir"], rel=1e-9), name
        minority = np.flatnonzero(minority_labels(counts, legacy_empty=True))
        np.testing.assert_array_equal(minority, wanted["minority_labels"], err_msg=name)
        done = remedial(given["target"], mask=False, legacy_empty=True)
        assert multiset(done.labels.toarray()) == multiset(wanted["remedial_rows"]), name
        masked = remedial(given["target"], legacy_empty=True)
        np.testing.assert_array_equal(
            masked.labels.toarray() + masked.ignored.toarray(), given["target"][masked.rows], err_msg=name
        )


def shares_of(setting, wanted, method):
    for percent in setting["P"]:
        key = f"{method}{percent}"
        if f"{key}_rows" in wanted:
            rows = wanted[f"{key}_rows"].astype(int)
            assert len(rows) == wanted[f"{key}_num_instances_after"]
            np.testing.assert_array_equal(rows.sum(axis=0), wanted[f"{key}_label_counts_after"])
            yield percent / 100, rows


def test_ml_ros_without_retiring_clones_as_many_rows_as_the_port_and_with_retiring_no_more(golden):
    walked = 0
    for name, setting, given, wanted in golden("multilabel_resampling"):
        target = given["target"]
        for share, theirs in shares_of(setting, wanted, "mlros"):
            walked += 1
            port = MultiLabelRandomOverSampler(target, share=share, retire=False, legacy_empty=True, seed=1)
            assert len(port) == len(theirs), name
            minority = wanted["minority_labels"]
            rounds = port.clones.reshape(-1, minority.size)
            order = minority[np.argsort(target.sum(axis=0)[minority], kind="stable")]
            assert target[rounds, order].all(), name
            np.testing.assert_array_equal(theirs[: len(target)], target, err_msg=name)
            paper = MultiLabelRandomOverSampler(target, share=share, legacy_empty=True, seed=1)
            assert len(target) < len(paper) <= len(theirs), name
    assert walked == 8


def test_ml_rus_deletes_only_rows_without_minority_labels_each_once(golden):
    walked, in_full = 0, []
    for name, setting, given, wanted in golden("multilabel_resampling"):
        target = given["target"]
        rare = wanted["minority_labels"]
        for share, theirs in shares_of(setting, wanted, "mlrus"):
            walked += 1
            budget = share * len(target)
            sampler = MultiLabelRandomUnderSampler(target, share=share, legacy_empty=True, seed=1)
            ours = target[np.sort(sampler.plan(0))]
            for kept in (theirs, ours):
                np.testing.assert_array_equal(kept[:, rare].sum(axis=0), target[:, rare].sum(axis=0), err_msg=name)
                assert 0 < len(target) - len(kept) <= budget, name
            assert np.unique(sampler.deletions).size == sampler.deletions.size, name
            if len(target) - len(theirs) == budget:
                in_full.append((name, share))
    assert walked == 6
    # The quirk: the port draws with replacement, and so deletes less than it was asked to in five of six runs.
    assert in_full == [("c12", 0.1)]
    # Where no row is free of minority labels the port stops with an error; ours deletes nothing.
    tiny = next(given["target"] for name, _, given, _ in golden("multilabel_resampling") if name == "tiny")
    assert MultiLabelRandomUnderSampler(tiny, share=0.25).deletions.size == 0


@pytest.mark.filterwarnings("ignore:.*leave nothing to re-sample:UserWarning")
def test_lp_ros_clones_rows_of_rare_label_sets_up_to_the_mean_size(golden):
    walked = set()
    for name, setting, given, wanted in golden("multilabel_resampling"):
        target = given["target"]
        number, sizes = label_sets(as_label_matrix(target))
        mean = len(target) / len(sizes)
        of_set = {tuple(row): int(s) for row, s in zip(target.tolist(), number, strict=True)}
        for share, theirs in shares_of(setting, wanted, "lpros"):
            after = np.bincount([of_set[row] for row in map(tuple, theirs.tolist())], minlength=len(sizes))
            assert (after[sizes >= mean] == sizes[sizes >= mean]).all(), name
            each = round(share * len(target) / (sizes < mean).sum())
            room = np.floor(np.minimum(np.maximum(mean - sizes, 0), each or np.inf))
            budget = round(share * len(target))
            plan = LabelPowersetOverSampler(target, share=share).plan(0)
            ours = np.bincount(number[plan], minlength=len(sizes))
            assert (ours - sizes).sum() == min(budget, np.floor(np.maximum(mean - sizes, 0)).sum()), name
            assert (ours[sizes < mean] <= mean).all(), name
            if each:
                walked.add((name, share))
                assert sorted(after) == sorted(ours) == sorted(sizes + room), name
            else:  # the quirk: a budget of less than half a clone per set is dealt out whatever the mean size
                assert (after - sizes).sum() == budget, name
                assert (after[sizes < mean] - sizes[sizes < mean]).min() >= 0, name
    assert walked == {("tiny", 0.25), ("c30", 0.25), ("absent_label", 0.25)}


def test_class_aware_sampling_has_the_length_cycles_and_label_counts_of_the_original(golden):
    for name, setting, given, wanted in golden("class_aware_sampler_multilabel"):
        target, draws = given["target"], setting["num_samples_cls"]
        sampler = ClassAwareMultiLabelSampler(target, samples_per_class=draws, reduce=setting["reduce"])
        length = int(wanted["length"])
        assert len(sampler) == length, name
        prior = sampler.effective_prior()
        np.testing.assert_allclose(prior, co_drawn(sampler.label_matrix).mean(axis=0), err_msg=name)
        theirs = wanted["indices"]
        np.testing.assert_array_equal(target[theirs].sum(axis=0), wanted["emitted_label_counts"], err_msg=name)
        for plan in (sampler.plan(0), theirs):
            assert plan.size == length, name
            cycle = draws * target.shape[1]
            for start in range(0, length - cycle + 1, cycle):
                # Every label is visited once: the draws of a cycle can be matched to the labels.
                visits = plan[start : start + cycle].reshape(-1, draws)
                possible = sparse.csr_array(target[visits].all(axis=1))
                assert (sparse.csgraph.maximum_bipartite_matching(possible) >= 0).all(), name
            counts = target[plan].sum(axis=0)
            spread = np.sqrt(length * prior * np.maximum(1 - prior, 0.05))
            assert (np.abs(counts - length * prior) < 4 * spread).all(), name


def test_repeat_factors_equal_those_of_the_original(golden):
    for name, setting, given, wanted in golden("repeat_factor_sampling"):
        sampler = RepeatFactorSampler(
            given["target"], threshold=setting["repeat_thresh"], power=0.5 if setting["sqrt"] else 1.0
        )
        np.testing.assert_allclose(sampler.label_factors, wanted["category_repeat"], rtol=1e-12, err_msg=name)
        factors = wanted["repeat_factors"]
        np.testing.assert_allclose(sampler.repeat_factors, factors, rtol=1e-6, err_msg=name)
        fractions = factors - np.floor(factors)
        spread = np.sqrt((fractions * (1 - fractions)).sum())
        for plan in (sampler.plan(0), sampler.plan(1), wanted["epoch1_indices"], wanted["epoch2_indices"]):
            uses = np.bincount(plan, minlength=factors.size)
            assert (uses >= np.floor(factors)).all(), name
            assert (uses <= np.ceil(factors)).all(), name
            assert abs(plan.size - factors.sum()) <= 4 * spread + 1e-4, name
        assert abs(len(sampler) - factors.sum()) < 1, name
