"""Trees under arc scores, against brute force; biaffine scores, against their formulas."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import SettingError
from tailwise.models.parsing.biaffine import BiaffineScorer
from tailwise.models.parsing.decoding import decode, is_projective, is_tree
from tailwise.models.parsing.network import ParserNetwork, ParserSizes
from tailwise.models.parsing.scoring import score_sentences


def single_root_trees(n):
    """All trees over n words with one word on the root, by following heads."""
    for heads in itertools.product(range(n + 1), repeat=n):
        if heads.count(0) == 1 and all(reaches_root(heads, word) for word in range(1, n + 1)):
            yield heads


def reaches_root(heads, word):
    for _ in range(len(heads)):
        word = heads[word - 1]
        if word == 0:
            return True
    return False


def crosses(heads):
    arcs = [tuple(sorted((h, d))) for d, h in enumerate(heads, start=1)]
    return any(a < c < b < d for (a, b), (c, d) in itertools.permutations(arcs, 2))


def total(scores, heads):
    return scores[np.arange(len(heads)), list(heads)].sum()


TREES = {n: list(single_root_trees(n)) for n in range(1, 6)}
PROJECTIVE = {n: [tree for tree in trees if not crosses(tree)] for n, trees in TREES.items()}


def test_numbers_of_trees_are_the_known_ones():
    # n^(n-1) rooted labelled trees (Cayley); projective ones with a single root word: 1, 2, 7, 30, 143
    assert [len(TREES[n]) for n in range(1, 6)] == [n ** (n - 1) for n in range(1, 6)]
    assert [len(PROJECTIVE[n]) for n in range(1, 6)] == [1, 2, 7, 30, 143]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("root_bonus", [0.0, 4.0, -4.0])
def test_best_tree_is_that_of_brute_force(n, root_bonus):
    generator = np.random.default_rng(n)
    for _ in range(15):
        scores = generator.normal(size=(n, n + 1))
        scores[:, 0] += root_bonus  # with a bonus, the best tree would hang several words on the root
        for algorithm, trees in (("mst", TREES[n]), ("eisner", PROJECTIVE[n])):
            best = max(trees, key=lambda heads: total(scores, heads))
            np.testing.assert_array_equal(decode(scores, algorithm), best)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans())
def test_result_is_a_tree_and_eisner_never_better_than_mst(n, seed, ties):
    scores = np.random.default_rng(seed).normal(size=(n, n + 1)) * 10
    scores = np.round(scores / 20) if ties else scores
    free, projective = decode(scores, "mst"), decode(scores, "eisner")
    assert is_tree(free)
    assert is_tree(projective)
    assert is_projective(projective)
    assert total(scores, projective) <= total(scores, free) + 1e-9
    if is_projective(free):
        assert total(scores, projective) == pytest.approx(total(scores, free))


@pytest.mark.parametrize("algorithm", ["mst", "eisner"])
def test_a_tree_with_high_scores_is_found_again(algorithm):
    heads = np.array([2, 0, 5, 5, 2, 7, 5])
    scores = np.random.default_rng(0).normal(size=(7, 8))
    scores[np.arange(7), heads] += 50
    np.testing.assert_array_equal(decode(scores, algorithm), heads)
    np.testing.assert_array_equal(decode(3 * scores + 100, algorithm), heads)


def test_nested_cycles_are_broken():
    # 1 <-> 2 and 3 <-> 4 are the best pairs, and the two pairs prefer each other to the root
    scores = np.zeros((4, 5))
    scores[0, 2] = scores[1, 1] = scores[2, 4] = scores[3, 3] = 10
    scores[0, 3] = scores[2, 1] = 5
    heads = decode(scores)
    assert is_tree(heads)
    assert total(scores, heads) == max(total(scores, tree) for tree in TREES[4])


def test_long_sentence_of_one_chain_of_cycles():
    n = 400
    scores = np.random.default_rng(1).normal(size=(n, n + 1))
    words = np.arange(n)
    scores[words[::2], words[::2] + 2] += 100  # every odd word and its right neighbour point at each other
    scores[words[1::2], words[1::2]] += 100
    assert is_tree(decode(scores))


def test_nothing_to_decode():
    assert decode(np.zeros((0, 1))).shape == (0,)
    assert decode(np.zeros((0, 1)), "eisner").shape == (0,)


@pytest.mark.parametrize(
    ("scores", "algorithm", "message"),
    [
        (np.zeros((3, 3)), "mst", r"\(n, n \+ 1\).*\(3, 3\)"),
        (np.full((2, 3), -np.inf), "mst", "finite arc scores"),
        (np.zeros((2, 3)), "greedy", "'mst' or 'eisner'.*'greedy'"),
    ],
)
def test_what_cannot_be_decoded_is_refused(scores, algorithm, message):
    with pytest.raises(SettingError, match=message):
        decode(scores, algorithm)


@pytest.mark.parametrize(
    ("heads", "tree", "projective"),
    [
        ([0], True, True),
        ([0, 0], False, True),
        ([2, 1, 0], False, True),
        ([3, 4, 0, 3], True, False),
        ([4], False, True),
    ],
)
def test_what_a_tree_is(heads, tree, projective):
    assert is_tree(heads) is tree
    if max(heads) <= len(heads):
        assert is_projective(heads) is projective


def make_scorer(form="linear"):
    scorer = BiaffineScorer(6, 4, arc_size=5, relation_size=3, form=form).double().eval()
    generator = torch.Generator().manual_seed(3)
    scorer.reset(generator)
    for weight in (scorer.arc_weight, scorer.relation_weight):
        torch.nn.init.normal_(weight, generator=generator)
    return scorer


def test_arc_scores_are_those_of_the_formula():
    scorer, lengths = make_scorer(), torch.tensor([3, 2])
    states = torch.randn(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arcs = scorer(states, lengths).arcs
    assert arcs.shape == (2, 3, 4)
    for b, length in enumerate(lengths):
        for d in range(length):
            for h in range(length + 1):
                head = scorer.root if h == 0 else states[b, h - 1]
                dependent = torch.cat([scorer.arc_dependent(states[None, None, b, d]).flatten(), torch.ones(1)])
                expected = dependent @ scorer.arc_weight @ scorer.arc_head(head[None, None]).flatten()
                assert arcs[b, d, h].item() == pytest.approx(expected.item(), abs=1e-5)
    assert (arcs[1, :, 3] == torch.finfo(torch.float32).min).all()


@pytest.mark.parametrize("form", ["linear", "cosine"])
def test_relation_scores_are_those_of_the_formula(form):
    scorer = make_scorer(form)
    x, y = (torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    logits = scorer.relation_logits(x, y)
    for m, r in itertools.product(range(7), range(4)):
        outer = torch.outer(x[m], y[m]).flatten()
        weight = scorer.relation_weight[r].flatten()
        expected = outer @ weight
        if form == "cosine":
            expected = expected / (outer.norm() * weight.norm())
        assert logits[m, r].item() == pytest.approx(expected.item(), abs=1e-5)


def test_dropout_takes_the_same_dimensions_at_every_word():
    scorer = make_scorer().train()
    states = torch.ones(1, 9, 6, dtype=torch.float64)
    x = scorer(states, torch.tensor([9])).dependents[0, :, :-1]
    assert (x == x[0]).all()


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_scores_of_a_sentence_do_not_depend_on_its_neighbours(layers):
    network = ParserNetwork(6, 4, ParserSizes(layers=layers, hidden=5, arc=5, relation=3)).eval()
    network.reset(torch.Generator().manual_seed(0))
    torch.nn.init.normal_(network.scorer.arc_weight)
    torch.nn.init.normal_(network.scorer.relation_weight)
    generator = np.random.default_rng(0)
    lengths = [4, 0, 1, 9, 2]
    offsets = np.cumsum([0, *lengths])
    features = generator.normal(size=(offsets[-1], 6)).astype(np.float16)
    together = score_sentences(network, features, offsets)
    for start, end in itertools.pairwise(offsets):
        alone = score_sentences(network, features[start:end], np.array([0, end - start]))
        np.testing.assert_array_equal(together.heads[start:end], alone.heads)
        np.testing.assert_allclose(together.logits[start:end], alone.logits, atol=1e-5)
        assert is_tree(alone.heads)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(SettingError, match="`layers` from 0"):
        ParserSizes(layers=-1)
    with pytest.raises(SettingError, match="'linear' or 'cosine'"):
        BiaffineScorer(3, 3, form="euclidean")
