"""Pixel metrics over a whole set at once, exact."""

import numpy as np


def average_precision(positive, negative):
    """(AP, AUROC, FPR at 95 % TPR) in percent of anomalous and known scores; AP step-wise, ties taken together."""
    positive, negative = np.sort(positive), np.sort(negative)
    values, first = np.unique(positive, return_index=True)
    true = len(positive) - first  # pixels with score >= value
    counts = np.diff(np.append(first, len(positive)))
    below = np.searchsorted(negative, values, "left")
    false = len(negative) - below
    tied = np.searchsorted(negative, values, "right") - below
    ap = float((counts * (true / (true + false))).sum() / len(positive))
    auroc = float((counts * (below + 0.5 * tied)).sum() / len(positive) / len(negative))
    threshold = positive[len(positive) - int(np.ceil(0.95 * len(positive)))]
    fpr = 1 - np.searchsorted(negative, threshold, "left") / len(negative)
    return 100 * ap, 100 * auroc, 100 * float(fpr)


def confusion(labels, predicted, classes):
    """[classes, classes] counts, rows = labels; pixels labelled >= classes are left out."""
    keep = labels < classes
    return np.bincount(labels[keep].astype(np.int64) * classes + predicted[keep], minlength=classes ** 2).reshape(
        classes, classes)


def segmentation_metrics(matrix):
    """(mean IoU, pixel accuracy, IoU per class), in percent."""
    hit = np.diag(matrix)
    iou = 100 * hit / np.maximum(matrix.sum(0) + matrix.sum(1) - hit, 1)
    return float(iou.mean()), float(100 * hit.sum() / matrix.sum()), iou
