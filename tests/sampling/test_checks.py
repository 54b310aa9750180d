"""What every sampler refuses when it is made, and not only when it lays out a plan."""

import numpy as np
import pytest
from scipy import sparse

from tailwise.errors import SettingError
from tailwise.sampling import MULTILABEL_SAMPLERS, SAMPLERS, SENTENCE_SAMPLERS, as_label_matrix
from tailwise.sampling.class_aware import ClassAwareSampler
from tailwise.sampling.class_aware_multilabel import ClassAwareMultiLabelSampler
from tailwise.sampling.label_balanced import LabelBalancedSampler
from tailwise.sampling.label_matrix import one_hot
from tailwise.sampling.m_per_class import EpisodeSampler, MPerClassBatchSampler, MPerClassSampler
from tailwise.sampling.multilabel_random import MultiLabelRandomOverSampler, MultiLabelRandomUnderSampler
from tailwise.sampling.natural import NaturalSampler
from tailwise.sampling.repeat_factor import RepeatFactorSampler
from tailwise.sampling.sequence_rarity import SentenceRaritySampler

LABELS = np.repeat(np.arange(4), [50, 20, 8, 3])
DATA = [(SAMPLERS, LABELS), (MULTILABEL_SAMPLERS, np.eye(4)[LABELS]), (SENTENCE_SAMPLERS, np.array_split(LABELS, 20))]
EVERY = [pytest.param(registry[name], data, id=name) for registry, data in DATA for name in registry]
HUGE, BEYOND = [0, 10**11], np.array([1, 2**63], dtype=np.uint64)


def needed(cls):
    return {"num_epochs": 3} if cls is SAMPLERS["progressive"] else {}


@pytest.mark.parametrize(("cls", "data"), EVERY)
@pytest.mark.parametrize("name", ["seed", "num_samples", "num_classes"])
@pytest.mark.parametrize("value", ["7", 7.0, True, [7]])
def test_a_number_that_is_not_whole_is_refused(cls, data, name, value):
    with pytest.raises(SettingError, match=rf"`{name}` to be a whole number, but got \[?'?(7|True)"):
        cls(data, **needed(cls), **{name: value})


@pytest.mark.parametrize(("cls", "data"), EVERY)
def test_whole_numbers_of_any_kind_are_taken(cls, data):
    given = {"seed": np.int64(3), "num_samples": np.uint8(7), "num_classes": np.array(4)}
    sampler, same = cls(data, **needed(cls), **given), cls(data, **needed(cls), seed=3, num_samples=7, num_classes=4)
    np.testing.assert_array_equal(sampler.plan(1), same.plan(1))


@pytest.mark.parametrize(("cls", "data"), EVERY)
def test_a_number_of_classes_that_no_memory_holds_is_refused(cls, data):
    with pytest.raises(
        SettingError, match=r"num_classes` = 100000000000 columns|at most 16777216 classes for \d+ rows"
    ):
        cls(data, **needed(cls), num_classes=10**11)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NaturalSampler([[0], [1, 2]]), "NaturalSampler: expected labels that form an array, but NumPy says"),
        (lambda: NaturalSampler(HUGE), "at most 16777216 classes for 2 rows, but got 100000000001. Number the classes"),
        (lambda: NaturalSampler(BEYOND), "at most 16777216 classes for 2 rows, but got 9223372036854775809"),
        (lambda: NaturalSampler([0, 2**64]), "integer class indices, but got object"),
        (lambda: RepeatFactorSampler([0, [1]]), "RepeatFactorSampler: expected labels that form an array"),
        (lambda: RepeatFactorSampler(HUGE), "RepeatFactorSampler: expected at most 16777216 classes"),
        (lambda: one_hot(BEYOND), "Labels: expected at most 16777216 classes"),
        (lambda: as_label_matrix([[0, 1], [[2], [1, 1]]]), "Labels: expected labels that form an array"),
        (lambda: as_label_matrix([HUGE, [1]]), "Labels: expected at most 16777216 classes for 2 rows"),
        (lambda: as_label_matrix([BEYOND, BEYOND]), "Labels: expected at most 16777216 classes for 2 rows"),
        (lambda: as_label_matrix([[0]], num_classes=10**30), "Labels: expected at most 16777216 classes for 1 rows"),
        (lambda: as_label_matrix(sparse.csr_array((2, 10**9))), "Labels: expected at most 16777216 classes"),
        (lambda: SentenceRaritySampler([[[0], [1, 2]]]), "Tags: expected labels that form an array"),
        (lambda: SentenceRaritySampler([HUGE]), "Tags: expected at most 16777216 classes for 2 rows"),
        (lambda: SentenceRaritySampler([BEYOND]), "Tags: expected at most 16777216 classes for 2 rows"),
        (lambda: SentenceRaritySampler([[0, 1]], catch_all=10**11), "expected at most 16777216 classes"),
        (lambda: SentenceRaritySampler([0, 1, 1], offsets=[0.0, 3.0]), "`offsets` to rise"),
    ],
)
def test_labels_that_are_no_numbering_are_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()


def test_many_classes_are_fine_where_there_are_many_rows():
    assert NaturalSampler(np.arange(300_000) * 50).class_counts.size == 14_999_951


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ClassAwareSampler(LABELS, samples_per_class=2.5), "`samples_per_class` to be a whole number"),
        (lambda: ClassAwareMultiLabelSampler(np.eye(2), samples_per_class=2.0), "`samples_per_class` to be a whole"),
        (lambda: LabelBalancedSampler(np.eye(2), iterations="5"), "`iterations` to be a whole number, but got '5'"),
        (lambda: MPerClassSampler(LABELS, classes_per_batch=2.0), "`classes_per_batch` to be a whole number"),
        (lambda: MPerClassSampler(LABELS, samples_per_class="2"), "`samples_per_class` to be a whole number"),
        (lambda: MPerClassSampler(LABELS, num_groups=1.5), "`num_groups` to be a whole number"),
        (lambda: MPerClassBatchSampler(LABELS, num_batches=1.5), "`num_batches` to be a whole number"),
        (lambda: EpisodeSampler(LABELS, ways=2.0), "`ways` to be a whole number"),
        (lambda: EpisodeSampler(LABELS, shots=2.0), "`shots` to be a whole number"),
        (lambda: SentenceRaritySampler([[0, 1]], catch_all=1.5), "`catch_all` to be a whole number, but got 1.5"),
        (lambda: SentenceRaritySampler([[0, 1]], paper_form=1), "`paper_form` to be True or False, but got 1"),
        (lambda: MultiLabelRandomOverSampler(np.eye(2), retire="no"), "`retire` to be True or False, but got 'no'"),
        (lambda: MultiLabelRandomUnderSampler(np.eye(2), legacy_empty=0), "`legacy_empty` to be True or False"),
        (lambda: RepeatFactorSampler([0, 1], instance_aware="yes"), "`instance_aware` to be True or False"),
    ],
)
def test_settings_of_single_samplers_are_checked(build, message):
    with pytest.raises(SettingError, match=message):
        build()
