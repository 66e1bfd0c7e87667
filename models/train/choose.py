"""Choose the default score on development sets: which statistic over which unit, K, feature maps and weights.

    python models/train/choose.py --model models/default.onnx --data DIR --sets DIR

Everything tried is a weighted sum of terms standardised on DATA/camvid/train, as the program computes it. The search looks at
masks thinned out to about 320 columns; measure the winner with evaluate.py. Ranking: the smallest standing over the sets,
where a set's standing is AP / aim.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from calibrate import STRIDE, known_on_grid
import sources
from data import normalise, resize_to_input
from evaluate import pairs
from export import OUTPUTS, session
from metrics import average_precision
from scoring import cluster_labels, statistic, term_map, to_grid, upsample

AIMS = {"road_anomaly21_val": 55.0, "road_obstacle21_val": 55.0, "fs_static": 10.0}
FEATURES = [("features",), ("features", "features_1"), ("features", "features_2"), ("features", "features_1", "features_2")]
KS = (5, 10, 20, 40)
K_LISTS = [(5, 10), (5, 10, 20), (10, 20, 40), (20, 40)]
# msp is left out: entropy says the same with more detail, and was never worse here.
STATISTICS = ("max-logit", "entropy", "energy")
MASK_WIDTH = 320
WEIGHTS = (0.25, 0.5, 1.0)


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
    """Per set {term: (scores of anomalous pixels, of known pixels)}, standardised on ordinary frames."""
    frames = sources.load("camvid", data)
    ordinary = {}
    for image, label in list(zip(frames.images, frames.labels))[::STRIDE * 2]:
        for key, values in frame_terms(run, image, features, seed).items():
            ordinary.setdefault(key, []).append(values[known_on_grid(label, values.shape)])
    moments = {key: (np.concatenate(v).mean(), np.concatenate(v).std()) for key, v in ordinary.items()}
    scored = {}
    for name in AIMS:
        parts = {}
        for image_path, mask_path in pairs(sets / name):
            image = np.asarray(Image.open(image_path).convert("RGB"))
            mask = np.asarray(Image.open(mask_path))
            step = max(mask.shape[1] // MASK_WIDTH, 1)
            mask = mask[step // 2::step, step // 2::step]
            for key, values in frame_terms(run, image, features, seed).items():
                mean, std = moments[key]
                score = upsample((values - mean) / std, mask.shape)
                positive, negative = parts.setdefault(key, ([], []))
                positive.append(score[mask == 1])
                negative.append(score[mask == 0])
        scored[name] = {key: (np.concatenate(p), np.concatenate(n)) for key, (p, n) in parts.items()}
    return scored


def standing(scored, recipe):
    """(smallest AP / aim, {set: AP}) of a recipe [(term, weight), ...]."""
    aps = {}
    for name, terms in scored.items():
        positive, negative = (sum(np.float32(w) * terms[key][side] for key, w in recipe) for side in (0, 1))
        aps[name] = average_precision(positive, negative)[0]
    return min(aps[name] / AIMS[name] for name in aps), aps


def recipes():
    """Single terms; a cluster term with a pixel term at several weights; two cluster terms, with and without a pixel term."""
    singles = [(kind, "pixel", ()) for kind in STATISTICS]
    clusters = [(kind, "cluster", ks) for kind, ks in itertools.product(STATISTICS, K_LISTS)]
    yield from ([(key, 1.0)] for key in singles + clusters)
    for cluster, pixel in itertools.product(clusters, singles):
        yield from ([(cluster, 1.0), (pixel, weight)] for weight in WEIGHTS)
    for ks in K_LISTS:
        both = [(("entropy", "cluster", ks), 1.0), (("max-logit", "cluster", ks), 1.0)]
        yield both
        yield from ([*both, (pixel, 1.0)] for pixel in singles)


def show(features, recipe, value, aps):
    terms = " + ".join(f"{w:g} {kind}/{unit}{list(ks) if ks else ''}" for (kind, unit, ks), w in recipe)
    figures = ", ".join(f"{name} {ap:.1f}" for name, ap in aps.items())
    print(f"{value:.3f}  [{', '.join(features)}]  {terms}  ({figures})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="folder with camvid/")
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
