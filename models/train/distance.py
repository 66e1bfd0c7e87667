"""How far a pixel's backbone features lie from everything seen in training: the class-conditional Mahalanobis distance.

Several Gaussians per label (and per source of frames) with one covariance for all, fitted without gradients to the
stride-16 features of ordinary labelled pixels (Lee et al. 2018, who take one per class). The distance to the nearest
mean, times `WEIGHT`, is taken off all logits of a pixel alike: softmax, and so the segmentation, stays as it is, while
max-logit and energy come to know how ordinary a pixel looks. No outliers.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from data import VOID, normalise, resize_to_input
from scoring import k_means

FEATURE = "features_2"
# One frame in three at most: neighbours in a sequence say the same.
STRIDE = 3
FRAMES_PER_SOURCE = 200
SHRINKAGE = 0.01
FEWEST_PIXELS = 50
MEANS_PER_CLASS = 32
WEIGHT = 1.5
SEED = 1


def labelled_features(run, frames):
    """Features [n, D] and label ids [n] of the known pixels of some frames, on the features' own grid."""
    features, labels = [], []
    stride = max(STRIDE, -(-len(frames) // FRAMES_PER_SOURCE))
    for image, label in zip(frames.images[::stride], frames.labels[::stride]):
        maps = run.run([FEATURE], {"input": normalise(resize_to_input(image))[None]})[0][0]
        small = np.asarray(Image.fromarray(label).resize((maps.shape[2], maps.shape[1]), Image.NEAREST)).ravel()
        known = small != VOID
        features.append(maps.reshape(len(maps), -1).T[known])
        labels.append(small[known])
    return np.concatenate(features).astype(np.float64), np.concatenate(labels)


def gaussians(groups):
    """(centre [D], whitening [D, D], means [M, D] in the whitened space) of groups of features, with their common covariance."""
    count = sum(len(group) for group in groups)
    means = np.stack([group.mean(0) for group in groups])
    covariance = sum((group - mean).T @ (group - mean) for group, mean in zip(groups, means)) / count
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)).T
    centre = sum(group.sum(0) for group in groups) / count
    return centre, whitening, (means - centre) @ whitening.T


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


def fit(run, sources, means_per_class=MEANS_PER_CLASS):
    """What `Distance` is made of, from one or more sets of frames."""
    centre, whitening, means = gaussians(grouped([labelled_features(run, frames) for frames in sources], means_per_class))
    return centre, WEIGHT * whitening, WEIGHT * means


class Distance(nn.Module):
    """[N, D, h, w] features to [N, 1, h, w]: Mahalanobis distance to the nearest mean."""

    def __init__(self, centre, whitening, means):
        super().__init__()
        size = len(centre)
        self.whiten = nn.Conv2d(size, size, 1)
        self.cross = nn.Conv2d(size, len(means), 1)
        with torch.no_grad():
            self.whiten.weight.copy_(torch.from_numpy(whitening)[..., None, None])
            self.whiten.bias.copy_(torch.from_numpy(-whitening @ centre))
            # |z - m|^2 = |z|^2 - 2 m.z + |m|^2
            self.cross.weight.copy_(torch.from_numpy(-2 * means)[..., None, None])
            self.cross.bias.copy_(torch.from_numpy((means ** 2).sum(1)))

    def forward(self, features):
        z = self.whiten(features)
        nearest = self.cross(z).amin(1, keepdim=True) + (z * z).sum(1, keepdim=True)
        return torch.sqrt(F.relu(nearest))
