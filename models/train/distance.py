"""How far a pixel's ImageNet features lie from everything seen in training: the class-conditional Mahalanobis distance,
relative to that from all ordinary pixels.

Several Gaussians per label (and per source of frames) with one covariance for all, fitted without gradients to the
features of ordinary labelled pixels (Lee et al. 2018, who take one per class), at two strides: the finer one sees small
things, the coarser one what kind of thing it is. From the squared distance to the nearest mean a share of the squared
distance to one Gaussian of all pixels is taken off (Ren et al. 2021, who take all of it): directions of the features in
which classes do not differ, such as light and camera, then count for less. The weighted distances are taken off all
logits of a pixel alike: softmax, and so the segmentation, stays as it is, while max-logit and energy come to know how
ordinary a pixel looks. No outliers.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from data import VOID, normalise, resize_to_input
from scoring import k_means

# {feature map: (weight of its distance, that of a plain one, means per label and source)}.
LEVELS = {"features_2": (7.0, 4.0, 32), "features_3": (0.8, 0.5, 8)}
# Share of the squared distance to all ordinary pixels that is taken off, 0..1.
RELATIVE = 0.6
FRAMES_PER_SOURCE = 200
SHRINKAGE = 0.01
FEWEST_PIXELS = 50
SEED = 1


def labelled_features(run, frames):
    """{feature map: (features [n, D], label ids [n])} of the known pixels of some frames, on the map's own grid."""
    found = {level: ([], []) for level in LEVELS}
    stride = -(-len(frames) // FRAMES_PER_SOURCE)
    for image, label in zip(frames.images[::stride], frames.labels[::stride]):
        outputs = run.run(list(LEVELS), {"input": normalise(resize_to_input(image))[None]})
        for (features, labels), maps in zip(found.values(), outputs):
            small = np.asarray(Image.fromarray(label).resize(maps.shape[:1:-1], Image.NEAREST)).ravel()
            known = small != VOID
            features.append(maps[0].reshape(maps.shape[1], -1).T[known])
            labels.append(small[known])
    return {level: (np.concatenate(features).astype(np.float64), np.concatenate(labels))
            for level, (features, labels) in found.items()}


def common_covariance(groups, means):
    """The covariance [D, D] of groups of features, each around its mean, with a share of its mean variance added to each
    direction, so that it can be inverted."""
    count = sum(len(group) for group in groups)
    covariance = sum((group - mean).T @ (group - mean) for group, mean in zip(groups, means)) / count
    return covariance + SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def gaussians(groups):
    """(centre [D], whitening [D, D], means [M, D] in the whitened space) of groups of features, with their common covariance."""
    means = np.stack([group.mean(0) for group in groups])
    whitening = np.linalg.cholesky(np.linalg.inv(common_covariance(groups, means))).T
    centre = sum(group.sum(0) for group in groups) / sum(len(group) for group in groups)
    return centre, whitening, (means - centre) @ whitening.T


def relative(groups, share):
    """(centre, whitening, means) as `gaussians` gives them, turned so that the features of all groups together are
    uncorrelated, and the weight [D] of each direction: |z - m|^2 - share * (squared distance to one Gaussian of all) is
    the sum of weight * z^2 - 2 m z + m^2 over the directions."""
    centre, whitening, means = gaussians(groups)
    spread = common_covariance(groups, [centre] * len(groups))
    # In a direction of variance v a group's own is 1, and one Gaussian of all gives z^2 / v.
    variances, directions = np.linalg.eigh(whitening @ spread @ whitening.T)
    return centre, directions.T @ whitening, means @ directions, 1 - share / variances


def grouped(sources, means_per_class):
    """The features of each class and source, split by K-Means in the space whitened with one mean for each of them."""
    groups = [features[labels == c] for features, labels in sources for c in range(VOID)]
    groups = [group for group in groups if len(group) >= FEWEST_PIXELS]
    if means_per_class == 1:
        return groups
    centre, whitening, _ = gaussians(groups)
    parts = []
    for group in groups:
        # A class of few pixels has fewer kinds.
        k = min(means_per_class, len(group) // FEWEST_PIXELS)
        labels = k_means(((group - centre) @ whitening.T).astype(np.float32), k, SEED)
        parts += [group[labels == j] for j in range(k)]
    return [part for part in parts if len(part)]


def fit(run, sources, is_relative=True):
    """The `Distances` from one or more sets of frames, whose features the session `run` gives; plain ones, without a
    share taken off, where `is_relative` is false."""
    found = [labelled_features(run, frames) for frames in sources]
    levels = {}
    for level, (of_relative, of_plain, means) in LEVELS.items():
        weight, share = (of_relative, RELATIVE) if is_relative else (of_plain, 0.0)
        centre, whitening, means, weights = relative(grouped([source[level] for source in found], means), share)
        levels[level] = Distance(centre, weight * whitening, weight * means, weights)
    return Distances(levels)


class Distances(nn.Module):
    """{feature map: [N, D, h, w]} to [N, 1, *size]: the sum of the distances of all levels, brought to one size."""

    def __init__(self, levels):
        super().__init__()
        self.levels = nn.ModuleDict(levels)

    def forward(self, maps, size):
        return sum(F.interpolate(distance(maps[level]), size=size, mode="bilinear", align_corners=False)
                   for level, distance in self.levels.items())


class Distance(nn.Module):
    """[N, D, h, w] features to [N, 1, h, w]: Mahalanobis distance to the nearest mean, with `weights` as `relative` has
    them; all of 1 without them."""

    def __init__(self, centre, whitening, means, weights=1.0):
        super().__init__()
        size = len(centre)
        self.whiten = nn.Conv2d(size, size, 1)
        self.cross = nn.Conv2d(size, len(means), 1)
        scale = np.sqrt(np.broadcast_to(weights, size))
        with torch.no_grad():
            self.whiten.weight.copy_(torch.from_numpy(scale[:, None] * whitening)[..., None, None])
            self.whiten.bias.copy_(torch.from_numpy(-scale * (whitening @ centre)))
            # With z the scaled features: |z|^2 - 2 m.z + |m|^2, which is |z - m|^2 where all weights are 1.
            self.cross.weight.copy_(torch.from_numpy(-2 * means / scale)[..., None, None])
            self.cross.bias.copy_(torch.from_numpy((means ** 2).sum(1)))

    def forward(self, features):
        z = self.whiten(features)
        nearest = self.cross(z).amin(1, keepdim=True) + (z * z).sum(1, keepdim=True)
        return torch.sqrt(F.relu(nearest))
