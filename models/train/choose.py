"""Choose the default score on development sets: which statistic over which unit, K, feature maps and weights.

    python models/train/choose.py --model models/default.onnx --data DIR --sets DIR

Everything tried is a weighted sum of terms standardised on DATA/train, as the program computes it. The search looks at
masks at a quarter of their resolution; measure the winner with evaluate.py. Ranking: the smallest standing over the sets,
where a set's standing is AP / aim.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from calibrate import STRIDE, known_on_grid
from data import Frames, normalise, resize_to_input
from evaluate import pairs
from export import OUTPUTS, session
from metrics import average_precision
from scoring import STATISTICS, cluster_labels, statistic, term_map, to_grid, upsample

AIMS = {"road_anomaly21_val": 55.0, "road_obstacle21_val": 55.0, "fs_static": 10.0}
FEATURES = [("features",), ("features_1",), ("features", "features_1"), ("features", "features_2"),
            ("features", "features_1", "features_2")]
KS = (5, 10, 20, 40)
K_LISTS = [(5, 10, 20), (10, 20, 40), (20, 40), (20,), (40,)]
WEIGHTS = (0.25, 0.5, 1.0, 2.0)


def frame_terms(run, image, features, seed):
    """{(statistic, unit, K list): [h_0, w_0]} for one RGB image."""
    maps = dict(zip(OUTPUTS, (m[0] for m in run.run(OUTPUTS, {"input": normalise(resize_to_input(image))[None]}))))
    grid = maps["features"].shape[1:]
    logits = to_grid(maps["logits"], grid)
    labels = cluster_labels([maps[f] for f in features], grid, KS, seed)
    table = {(kind, "pixel", ()): statistic(kind, logits) for kind in STATISTICS}
    for kind, ks in itertools.product(STATISTICS, K_LISTS):
        table[kind, "cluster", ks] = term_map(kind, "cluster", logits, labels, ks)
    return table


def collect(run, features, seed, data, sets):
    """Per term (mean, std) on ordinary frames, and per set {term: grid maps} with the masks at a quarter size."""
    frames = Frames(data / "train")
    ordinary = {}
    for image, label in list(zip(frames.images, frames.labels))[::STRIDE * 2]:
        for key, values in frame_terms(run, image, features, seed).items():
            ordinary.setdefault(key, []).append(values[known_on_grid(label, values.shape)])
    moments = {key: (np.concatenate(v).mean(), np.concatenate(v).std()) for key, v in ordinary.items()}
    scored = {}
    for name in AIMS:
        masks, maps = [], {}
        for image_path, mask_path in pairs(sets / name):
            image = np.asarray(Image.open(image_path).convert("RGB"))
            masks.append(np.asarray(Image.open(mask_path))[2::4, 2::4])
            for key, values in frame_terms(run, image, features, seed).items():
                mean, std = moments[key]
                maps.setdefault(key, []).append(((values - mean) / std).astype(np.float32))
        scored[name] = masks, maps
    return scored


def precision(masks, maps):
    """AP in percent of grid maps against masks of any size."""
    positive, negative = [], []
    for mask, values in zip(masks, maps):
        score = upsample(values, mask.shape)
        positive.append(score[mask == 1])
        negative.append(score[mask == 0])
    return average_precision(np.concatenate(positive), np.concatenate(negative))[0]


def standing(scored, recipe):
    """(smallest AP / aim, {set: AP}) of a recipe [(term, weight), ...]."""
    aps = {}
    for name, (masks, maps) in scored.items():
        fused = [sum(w * maps[key][i] for key, w in recipe) for i in range(len(masks))]
        aps[name] = precision(masks, fused)
    return min(aps[name] / AIMS[name] for name in aps), aps


def recipes():
    """Single terms, then a cluster term with a pixel term at several weights."""
    singles = [(kind, "pixel", ()) for kind in STATISTICS]
    clusters = [(kind, "cluster", ks) for kind, ks in itertools.product(STATISTICS, K_LISTS)]
    yield from ([(key, 1.0)] for key in singles + clusters)
    for cluster in clusters:
        for pixel in singles:
            yield from ([(cluster, 1.0), (pixel, weight)] for weight in WEIGHTS)


def show(features, recipe, value, aps):
    terms = " + ".join(f"{w:g} {kind}/{unit}{list(ks) if ks else ''}" for (kind, unit, ks), w in recipe)
    figures = ", ".join(f"{name} {ap:.1f}" for name, ap in aps.items())
    print(f"{value:.3f}  [{', '.join(features)}]  {terms}  ({figures})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="folder with train/")
    parser.add_argument("--sets", required=True, help="folder with " + ", ".join(AIMS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--top", type=int, default=8)
    args = parser.parse_args()
    run = session(args.model, args.threads)
    for features in FEATURES:
        scored = collect(run, features, args.seed, Path(args.data), Path(args.sets))
        ranked = []
        for recipe in recipes():
            ranked.append((recipe, *standing(scored, recipe)))
            if len(recipe) == 1:
                show(features, *ranked[-1])
        print("-- best --")
        for entry in sorted(ranked, key=lambda entry: -entry[1])[:args.top]:
            show(features, *entry)


if __name__ == "__main__":
    main()
