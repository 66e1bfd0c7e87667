"""How far a pixel's backbone features lie from everything seen in training: the class-conditional Mahalanobis distance.

One Gaussian per class (and per source of frames) with a covariance shared by all, fitted in closed form to the stride-16
features of ordinary labelled pixels (Lee et al. 2018). The distance to the nearest mean is taken off all logits of a
pixel alike: softmax, and so the segmentation, stays as it is, while max-logit and energy come to know how ordinary a
pixel looks. No outliers, no gradient steps, no weight to tune.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from data import CLASSES, normalise, resize_to_input

FEATURE = "features_2"
# One frame in three: neighbours in a sequence say the same.
STRIDE = 3
SHRINKAGE = 0.01
FEWEST_PIXELS = 50


def labelled_features(run, frames):
    """Features [n, D] and labels [n] of the known pixels of some frames, on the features' own grid."""
    features, labels = [], []
    for image, label in zip(frames.images[::STRIDE], frames.labels[::STRIDE]):
        maps = run.run([FEATURE], {"input": normalise(resize_to_input(image))[None]})[0][0]
        small = np.asarray(Image.fromarray(label).resize((maps.shape[2], maps.shape[1]), Image.NEAREST)).ravel()
        known = small < len(CLASSES)
        features.append(maps.reshape(len(maps), -1).T[known])
        labels.append(small[known])
    return np.concatenate(features).astype(np.float64), np.concatenate(labels)


def fit(run, sources):
    """(centre [D], whitening [D, D], means [M, D] in the whitened space) from one or more sets of frames."""
    means, scatter, count, total = [], 0.0, 0, 0.0
    for frames in sources:
        features, labels = labelled_features(run, frames)
        for c in range(len(CLASSES)):
            own = features[labels == c]
            if len(own) < FEWEST_PIXELS:
                continue
            means.append(own.mean(0))
            scatter = scatter + (own - means[-1]).T @ (own - means[-1])
            total = total + own.sum(0)
            count += len(own)
    covariance = scatter / count
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)).T
    centre = total / count
    return centre, whitening, (np.stack(means) - centre) @ whitening.T


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
