"""Weights along a tree of correlated assets: hierarchical risk parity and nested clusters.

References
----------
López de Prado, M. (2016). Building diversified portfolios that outperform out of sample. Journal of Portfolio
Management 42(4).
López de Prado, M. (2020). Machine learning for asset managers, chapters 4 and 7.
Rousseeuw, P. J. (1987). Silhouettes. Journal of Computational and Applied Mathematics 20.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import pdist, squareform

from portfolio.allocation import SCHEMES, correlation
from portfolio.schemes.simple import minimum_variance

Array = NDArray[np.float64]


@SCHEMES.register("hierarchical_risk_parity")
def hierarchical_risk_parity(covariance: Array) -> Array:
    """Split the capital down the order of the tree, by the inverse variances of the two halves."""
    weights = np.ones(len(covariance))
    if len(weights) < 2:
        return weights
    groups = [leaves_list(linkage(_distances(covariance), "single"))]
    while groups:
        group = groups.pop()
        left, right = group[: len(group) // 2], group[len(group) // 2 :]
        risk_left, risk_right = _cluster_variance(covariance, left), _cluster_variance(covariance, right)
        weights[left] *= risk_right / (risk_left + risk_right)
        weights[right] *= risk_left / (risk_left + risk_right)
        groups += [half for half in (left, right) if len(half) > 1]
    return weights


@SCHEMES.register("nested_clusters")
def nested_clusters(covariance: Array) -> Array:
    """Least variance inside each cluster, then among the clusters, so that no inverse mixes what is alike.

    The clusters are the cut of the tree with the best silhouette (`clusters`).
    """
    labels = clusters(covariance)
    inside = np.zeros((len(covariance), labels.max() + 1))
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        inside[members, label] = minimum_variance(covariance[np.ix_(members, members)])
    return inside @ minimum_variance(inside.T @ covariance @ inside)


def clusters(covariance: Array) -> NDArray[np.int64]:
    """`(N,)` labels from 0: the cut of the tree with the largest mean silhouette, of at most N / 2 clusters."""
    count = len(covariance)
    if count < 3:
        return np.zeros(count, dtype=np.int64)
    condensed = _distances(covariance)
    tree, distance = linkage(condensed, "average"), squareform(condensed)
    cuts = [fcluster(tree, size, "maxclust") - 1 for size in range(2, max(count // 2, 2) + 1)]
    scores = [_quality(distance, labels) for labels in cuts]
    return cuts[int(np.argmax(scores))].astype(np.int64)


def _distances(covariance: Array) -> Array:
    """Condensed distances between the columns of sqrt((1 - rho) / 2): alike is what is alike to all others."""
    return pdist(np.sqrt(0.5 * (1.0 - correlation(covariance))))


def _cluster_variance(covariance: Array, members: NDArray[np.int32]) -> float:
    part = covariance[np.ix_(members, members)]
    inverse = 1.0 / np.diag(part)
    weights = inverse / inverse.sum()
    return float(weights @ part @ weights)


def _quality(distance: Array, labels: NDArray[np.int32]) -> float:
    """Mean silhouette; an asset alone in its cluster has 0."""
    member = labels[:, None] == np.arange(labels.max() + 1)
    sizes = member.sum(axis=0)
    sums = distance @ member
    own_size = sizes[labels]
    at = np.arange(len(labels))
    own = sums[at, labels] / np.maximum(own_size - 1, 1)
    other = np.where(member, np.inf, sums / sizes).min(axis=1)
    larger = np.maximum(own, other)
    width = np.divide(other - own, larger, out=np.zeros_like(own), where=larger > 0)
    return float(np.where(own_size > 1, width, 0.0).mean())
