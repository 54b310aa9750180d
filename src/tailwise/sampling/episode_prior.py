"""The class distribution of the natural query rows of episodes.

    P_j = E[ 1{j in S} n_j / T_S ],      T_S = sum_{k in S} n_k,   S a uniform set of W of the C classes

For W < C it is flatter than n_j / N: a frequent class takes most of an episode, but is in no more of them than a rare
one. With 1 / T = int_0^inf exp(-t T) dt and S as W successes in C trials of probability q = W / C,

    P_j  ~  n_j int_0^inf exp(-t n_j) [z^(W-1)] prod_{k != j} (1 - q + q z exp(-t n_k)) dt,

a sum over t = e^u, which converges exponentially in the step of u. Queries beside a natural support half go by the rows
that this leaves, l_k in place of n_k, unless it leaves a class of S none. Rows left are natural in expectation, so that
only those episodes differ, and the difference is estimated from a fixed random stream:

    P_j += E[ n_j / T_S - l_j / sum_{k in S} l_k ;  l_k = 0 for a k in S ]

No paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["natural_query_prior"]

_STEP = 0.5  # of u; the error is of the order of 1e-7
_DRAWN = 1 << 21  # classes in the random episodes


def natural_query_prior(class_counts: NDArray[np.int64], ways: int, support_size: int = 0) -> NDArray[np.float64]:
    """The class distribution of natural query rows.

    Args:
        class_counts: n_j > 0, ``(C,)``.
        ways: W, classes of an episode, from 1 to C.
        support_size: rows of a natural support half; 0 for a balanced one, by which queries do not go.

    Returns:
        ``(C,)``, to within 1e-5, or to within 1e-3 if a class has no more than `support_size` rows.
    """
    prior = _mean_shares(class_counts, ways)
    if class_counts.min() <= support_size:
        prior += _change_by_support(class_counts, ways, support_size)
    return prior


def _mean_shares(class_counts: NDArray[np.int64], ways: int) -> NDArray[np.float64]:
    """E[1{j in S} n_j / T_S], ``(C,)``."""
    if ways == class_counts.size:
        natural: NDArray[np.float64] = class_counts / class_counts.sum()
        return natural
    ordered = np.sort(class_counts)
    start, end = np.log(1e-6 / ordered[-ways:].sum()), np.log(20.0 / ordered[:ways].sum())
    t = np.exp(np.arange(start, end + _STEP, _STEP))
    values, group, sizes = np.unique(class_counts, return_inverse=True, return_counts=True)
    degrees, chosen = np.arange(ways), ways / class_counts.size

    def factor(place: int, size: int) -> NDArray[np.float64]:
        """The coefficients of z that `size` classes of one count contribute, ``(t, W)``."""
        choices = gammaln(size + 1) - gammaln(degrees + 1) - gammaln(size - degrees + 1)
        successes = degrees * (np.log(chosen) - t[:, None] * values[place])
        coefficients: NDArray[np.float64] = np.exp(choices + successes + (size - degrees) * np.log1p(-chosen))
        return coefficients

    before = [factor(0, 0)]
    for place, size in enumerate(sizes[:-1]):
        before.append(_product(before[-1], factor(place, size)))
    shares, after = np.empty(values.size), factor(0, 0)
    for place in reversed(range(values.size)):
        others = (_product(before[place], after) * factor(place, sizes[place] - 1)[:, ::-1]).sum(axis=1)
        shares[place] = values[place] * (t * np.exp(-t * values[place])) @ others
        after = _product(after, factor(place, sizes[place]))
    prior: NDArray[np.float64] = shares[group] / (shares @ sizes)
    return prior


def _product(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products of polynomials, their coefficients of z^0 to z^(W-1), ``(t, W)``."""
    ways = first.shape[1]
    transformed = np.fft.rfft(first, 2 * ways) * np.fft.rfft(second, 2 * ways)
    return np.fft.irfft(transformed, 2 * ways)[:, :ways]


def _change_by_support(class_counts: NDArray[np.int64], ways: int, support_size: int) -> NDArray[np.float64]:
    """What queries gain or lose where a natural support half leaves a class without a row, ``(C,)``."""
    generator = np.random.Generator(np.random.PCG64(0))
    classes = np.broadcast_to(np.arange(class_counts.size), (max(_DRAWN // class_counts.size, 1), class_counts.size))
    whole = class_counts.size // ways * ways
    sets = generator.permuted(classes, axis=1)[:, :whole].reshape(-1, ways)
    counts = class_counts[sets]
    possible = (counts.min(axis=1) <= support_size) & (counts.sum(axis=1) > support_size)
    number, sets, counts = len(sets), sets[possible], counts[possible]
    left = _rows_left(generator, counts, support_size)
    change = counts / counts.sum(axis=1, keepdims=True) - left / left.sum(axis=1, keepdims=True)
    change[(left > 0).all(axis=1)] = 0.0
    return np.bincount(sets.reshape(-1), weights=change.reshape(-1), minlength=class_counts.size) / number


def _rows_left(generator: np.random.Generator, counts: NDArray[np.int64], taken: int) -> NDArray[np.int64]:
    """Rows of every class after `taken` rows of those of every set were taken at random, ``(M, W)``."""
    left, others, missing = counts.copy(), counts.sum(axis=1), np.full(len(counts), taken)
    for place in range(counts.shape[1]):
        others -= counts[:, place]
        drawn = generator.hypergeometric(counts[:, place], others, missing)
        left[:, place] -= drawn
        missing -= drawn
    return left
