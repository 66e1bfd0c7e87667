#!/usr/bin/env python3
"""Measures how well `oodstream mine` finds objects of a kind by their mean feature, on labelled street pictures.

    embeddings.py models/default.onnx ../shared/data

An object is a connected component of a labelled class with at least 0.2 % of the picture; its embedding is the mean
feature over its cells, as `-o embeddings:` computes it. `--like` is measured by the precision of the 10 nearest
objects of other pictures, `--unique` by how many of the kinds are among the first N. Needs numpy, onnxruntime,
pillow and scipy.
"""
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from scipy.ndimage import label

SETS = {
    "camvid/test": {2: "pole", 6: "sign", 8: "car", 9: "pedestrian", 10: "bicyclist"},
    "idd_lite/val": {2: "person or animal", 3: "vehicle", 4: "roadside object"},
}
LEAST = 0.002


def objects(session, folder, kinds):
    """The embedding, kind and picture of each object."""
    (_, _, height, width) = session.get_inputs()[0].shape
    rows, names, pictures = [], [], []
    for number, path in enumerate(sorted((folder / "labels").iterdir())):
        picture = next((folder / "images").glob(path.stem + ".*"))
        pixels = np.asarray(Image.open(picture).convert("RGB").resize((width, height), Image.BILINEAR), np.float32)
        tensor = ((pixels / 255 - 0.498039) / 0.501961).transpose(2, 0, 1)[None]
        features = session.run(["features"], {session.get_inputs()[0].name: tensor})[0][0]
        depth, h, w = features.shape
        labels = np.asarray(Image.open(path))
        y = (2 * np.arange(h) + 1) * labels.shape[0] // (2 * h)
        x = (2 * np.arange(w) + 1) * labels.shape[1] // (2 * w)
        cells = labels[y][:, x]
        for kind, name in kinds.items():
            parts, count = label(cells == kind)
            for part in range(1, count + 1):
                region = parts == part
                if region.mean() >= LEAST:
                    rows.append(features[:, region].mean(1))
                    names.append(name)
                    pictures.append(number)
    return np.array(rows), np.array(names), np.array(pictures)


def like(rows, names, pictures, nearest=10):
    """Mean precision of the nearest objects of other pictures, by kind, beside that of a random choice."""
    similarity = rows @ rows.T
    similarity[pictures[:, None] == pictures[None]] = -np.inf
    hits = names[np.argsort(-similarity, 1)[:, :nearest]] == names[:, None]
    kinds = {name: names == name for name in dict.fromkeys(names)}
    return {name: (hits[of].mean(), of.mean(), of.sum()) for name, of in kinds.items()}


def unique(rows, names, count, rng):
    """Kinds among the first `count` by farthest points, and by random choices (mean of 200)."""
    chosen = [0]
    nearest = rows @ rows[0]
    while len(chosen) < count:
        chosen.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
    shares = lambda picks: np.array([np.mean(names[picks] == name) for name in sorted(set(names))])
    random = [len(set(names[rng.choice(len(names), count, False)])) for _ in range(200)]
    return len(set(names[chosen])), np.mean(random), shares(chosen).min(), min(np.mean(names == n) for n in set(names))


def main():
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    for name, kinds in SETS.items():
        rows, names, pictures = objects(session, Path(sys.argv[2]) / name, kinds)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        print(f"{name}, {len(rows)} objects, {rows.shape[1]} features")
        for kind, (precision, chance, count) in like(unit, names, pictures).items():
            print(f"  like: {kind} ({count}): {100 * precision:.1f} % of 10, by chance {100 * chance:.1f} %")
        for count in (5, 10, 20, 40):
            kinds_found, random, rarest, share = unique(unit, names, count, np.random.default_rng(1))
            print(
                f"  unique {count}: {kinds_found} kinds of {len(set(names))}, by chance {random:.2f}; "
                f"rarest kind {100 * rarest:.0f} % of them, {100 * share:.1f} % of all"
            )


main()
