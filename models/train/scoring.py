"""The scores of docs/method.md (M2 to M9) in NumPy, as the program computes them, on the grid of the first feature map.

Shapes: logits [C, h, w]; features [D_i, h_i, w_i]; the grid is (h_0, w_0) with N = h_0 * w_0 pixels.
"""

import numpy as np
import torch
import torch.nn.functional as F

STATISTICS = ("msp", "max-logit", "entropy", "energy")
MAX_ITERATIONS = 50
# The clustering ends when at most one point in this many changes its cluster.
CONVERGENCE = 128


def to_grid(maps, grid):
    """Bring [C, h, w] to the grid: area average when shrinking, bilinear (half-pixel centres) when growing."""
    if maps.shape[1:] == tuple(grid):
        return maps
    x = torch.from_numpy(np.ascontiguousarray(maps))[None]
    if maps.shape[1] >= grid[0] and maps.shape[2] >= grid[1]:
        return F.adaptive_avg_pool2d(x, grid)[0].numpy()
    return F.interpolate(x, size=tuple(grid), mode="bilinear", align_corners=False)[0].numpy()


def upsample(score, size):
    """Bilinear, half-pixel centres, edges clamped: [h, w] to `size`."""
    x = torch.from_numpy(np.ascontiguousarray(score, dtype=np.float32))[None, None]
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)[0, 0].numpy()


def statistic(name, logits):
    """Per-pixel measure of the unknown, higher = more anomalous; logits [C, h, w] on the grid."""
    top = logits.max(0)
    if name == "max-logit":
        return -top
    exp = np.exp(logits - top)
    total = exp.sum(0)
    if name == "energy":
        return -(top + np.log(total))
    if name == "msp":
        return -1 / total
    if name == "entropy":
        return np.log(total) - (exp * (logits - top)).sum(0) / total
    raise ValueError(f"no statistic {name!r}")


def feature_points(features, grid):
    """Each map on the grid, each vector of each map of unit length, side by side: [N, sum D_i]."""
    parts = []
    for maps in features:
        x = to_grid(maps, grid).reshape(len(maps), -1).T
        parts.append(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
    return np.ascontiguousarray(np.concatenate(parts, 1), dtype=np.float32)


def k_means(points, k, seed):
    """Lloyd's algorithm from k-means++ centres; the labels [N]. An empty cluster takes the farthest point."""
    rng = np.random.default_rng([seed, k])
    squares = (points ** 2).sum(1)

    def distances(centres):
        return np.maximum(squares[:, None] - 2 * points @ centres.T + (centres ** 2).sum(1), 0)

    centres = points[rng.integers(len(points))][None]
    nearest = distances(centres)[:, 0]
    while len(centres) < k:
        total = nearest.sum(dtype=np.float64)
        if total > 0:
            pick = min(int(np.searchsorted(np.cumsum(nearest, dtype=np.float64), rng.random() * total)), len(points) - 1)
        else:
            pick = int(rng.integers(len(points)))
        centres = np.concatenate([centres, points[pick][None]])
        nearest = np.minimum(nearest, distances(centres[-1:])[:, 0])
    labels = None
    for _ in range(MAX_ITERATIONS):
        d = distances(centres)
        new = d.argmin(1)
        changed = len(points) if labels is None else np.count_nonzero(new != labels)
        labels = new
        if changed <= len(points) // CONVERGENCE:
            break
        member = np.zeros((len(points), k), np.float32)
        member[np.arange(len(points)), labels] = 1
        counts = member.sum(0)
        centres = (member.T @ points) / np.maximum(counts, 1)[:, None]
        far = np.argsort(-d[np.arange(len(points)), labels])
        for slot, j in enumerate(np.flatnonzero(counts == 0)):
            centres[j] = points[far[slot]]
    return labels


def cluster_mean(values, labels):
    """Replace each of the values [N] by the mean over its cluster."""
    counts = np.bincount(labels)
    return (np.bincount(labels, values) / np.maximum(counts, 1))[labels].astype(np.float32)


def cluster_labels(features, grid, ks, seed):
    """{K: labels [N]} for one frame."""
    points = feature_points(features, grid)
    return {k: k_means(points, k, seed) for k in ks}


def term_map(kind, unit, logits, labels, ks):
    """One unstandardised term [h_0, w_0]; logits on the grid, labels as `cluster_labels` gives them."""
    values = statistic(kind, logits)
    if unit == "pixel":
        return values
    flat = values.ravel()
    return np.mean([cluster_mean(flat, labels[k]) for k in ks], 0).reshape(values.shape)


def fused(terms, logits, labels, ks):
    """sum_i weight_i * (t_i - mean_i) / deviation_i on the grid."""
    return sum(t["weight"] * (term_map(t["statistic"], t["unit"], logits, labels, ks) - t["mean"]) / t["std"]
               for t in terms)
