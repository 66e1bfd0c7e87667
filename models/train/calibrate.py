"""Mean and deviation of each term of a score, and its threshold, from ordinary labelled frames."""

import numpy as np
from PIL import Image

from data import VOID, Frames, normalise, resize_to_input
from scoring import cluster_labels, fused, term_map, to_grid

# One frame in three: neighbours in a sequence say the same.
STRIDE = 3
MARKED_SHARE = 0.01


def known_on_grid(label, grid):
    """Bool [h_0, w_0]: grid pixels whose label is not void."""
    small = Image.fromarray(label).resize((grid[1], grid[0]), Image.NEAREST)
    return np.asarray(small) != VOID


def scored_frames(run, recipe, frames):
    """For each frame (logits on the grid, cluster labels, known pixels)."""
    for image, label in zip(frames.images[::STRIDE], frames.labels[::STRIDE]):
        maps = run.run(["logits", *recipe["features"]], {"input": normalise(resize_to_input(image))[None]})
        features = [m[0] for m in maps[1:]]
        grid = features[0].shape[1:]
        labels = {}
        if any(term["unit"] == "cluster" for term in recipe["terms"]):
            labels = cluster_labels(features, grid, recipe["k"], recipe["seed"])
        yield to_grid(maps[0][0], grid), labels, known_on_grid(label, grid)


def calibrate(run, recipe, data):
    """The recipe (features, k, seed, terms with statistic, unit, weight) with mean, deviation and threshold filled in.

    Mean and deviation come from DATA/train, the threshold from DATA/val; void pixels are left out.
    """
    samples = [[] for _ in recipe["terms"]]
    for logits, labels, known in scored_frames(run, recipe, Frames(data / "train")):
        for term, values in zip(recipe["terms"], samples):
            values.append(term_map(term["statistic"], term["unit"], logits, labels, recipe["k"])[known])
    terms = []
    for term, values in zip(recipe["terms"], samples):
        values = np.concatenate(values).astype(np.float64)
        terms.append({**term, "mean": float(values.mean()), "std": float(values.std())})
    scores = [fused(terms, logits, labels, recipe["k"])[known]
              for logits, labels, known in scored_frames(run, recipe, Frames(data / "val"))]
    threshold = float(np.quantile(np.concatenate(scores), 1 - MARKED_SHARE))
    return {**recipe, "terms": terms, "threshold": threshold}
