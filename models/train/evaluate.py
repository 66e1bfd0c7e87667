"""Measure an exported model: segmentation on CamVid, anomaly scores on sets of images with masks.

    python models/train/evaluate.py --model models/default.onnx --data DIR --sets DIR [--json FILE]

--data: a folder with test/ (images/ and labels/). --sets: a folder of sets, each with images/ and masks/ of equal file
stems (0 = known, 1 = anomaly, 255 = void). The protocol is pixel metrics at the ground truth's resolution over all
pixels of a set together. The network sees every image at its own input size.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from data import CLASSES, IMAGE_SUFFIXES, DataError, Frames, normalise, resize_to_input
from export import session
from metrics import average_precision, confusion, segmentation_metrics
from scoring import STATISTICS, cluster_labels, fused, term_map, to_grid, upsample

CLUSTER_KS = (5, 10, 20, 40)
ENSEMBLE = (5, 10, 20)


def segmentation(run, frames):
    """(mean IoU, pixel accuracy, IoU per class) at the labels' resolution."""
    matrix = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for image, label in zip(frames.images, frames.labels):
        logits = run.run(["logits"], {"input": normalise(resize_to_input(image))[None]})[0]
        full = F.interpolate(torch.from_numpy(logits), size=label.shape, mode="bilinear", align_corners=False)
        matrix += confusion(label, full[0].argmax(0).numpy(), len(CLASSES))
    return segmentation_metrics(matrix)


def pairs(folder):
    """Paths of the images and masks of a set."""
    for sub in ("images", "masks"):
        if not (folder / sub).is_dir():
            raise DataError(f"{folder / sub}: no such folder")
    found = []
    for image in sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
        mask = folder / "masks" / (image.stem + ".png")
        if not mask.is_file():
            raise DataError(f"{mask}: mask missing for {image.name}")
        found.append((image, mask))
    if not found:
        raise DataError(f"{folder / 'images'}: no JPEG, PNG or WebP image")
    return found


def methods(scoring):
    """{name: function (logits on the grid, labels of the first feature, labels of the default's) -> map}."""
    table = {name: (lambda l, a, b, name=name: term_map(name, "pixel", l, a, [])) for name in STATISTICS}
    for k in CLUSTER_KS:
        table[f"cluster K={k}"] = lambda l, a, b, k=k: term_map("max-logit", "cluster", l, a, [k])
    table["cluster-ensemble"] = lambda l, a, b: term_map("max-logit", "cluster", l, a, ENSEMBLE)
    table["cluster-ensemble, default features"] = lambda l, a, b: term_map("max-logit", "cluster", l, b, scoring["k"])
    table["cluster-ensemble entropy, default features"] = lambda l, a, b: term_map("entropy", "cluster", l, b, scoring["k"])
    table["default"] = lambda l, a, b: fused(scoring["terms"], l, b, scoring["k"])
    return table


def anomaly(run, folder, features, scoring, only=None):
    """{method: (AP, AUROC, FPR95)} in percent over one set."""
    table = {name: f for name, f in methods(scoring).items() if only is None or name in only}
    positive = {name: [] for name in table}
    negative = {name: [] for name in table}
    for image_path, mask_path in pairs(folder):
        image = np.asarray(Image.open(image_path).convert("RGB"))
        mask = np.asarray(Image.open(mask_path))
        maps = run.run(["logits", *features], {"input": normalise(resize_to_input(image))[None]})
        maps = [m[0] for m in maps]
        grid = maps[1].shape[1:]
        logits = to_grid(maps[0], grid)
        first = cluster_labels(maps[1:2], grid, CLUSTER_KS, scoring["seed"]) if only is None else None
        default = cluster_labels(maps[1:], grid, scoring["k"], scoring["seed"])
        for name, method in table.items():
            score = upsample(method(logits, first, default), mask.shape)
            positive[name].append(score[mask == 1])
            negative[name].append(score[mask == 0])
    return {name: average_precision(np.concatenate(positive[name]), np.concatenate(negative[name])) for name in table}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="ONNX file; its manifest lies beside it")
    parser.add_argument("--data", help="folder with test/ for the segmentation figures")
    parser.add_argument("--split", default="test")
    parser.add_argument("--sets", help="folder of anomaly sets")
    parser.add_argument("--only-default", action="store_true", help="score with the manifest's default alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    args = parser.parse_args()
    model = Path(args.model)
    report = {"model": model.name}
    try:
        manifest = tomllib.loads(model.with_suffix(".toml").read_text())
        run = session(str(model), args.threads)
        if args.data:
            miou, accuracy, per_class = segmentation(run, Frames(Path(args.data) / args.split))
            print(f"segmentation {args.split}: mIoU {miou:.2f} %, pixel accuracy {accuracy:.2f} %")
            print("  " + ", ".join(f"{c} {v:.1f}" for c, v in zip(CLASSES, per_class)), flush=True)
            report["segmentation"] = {"miou": miou, "accuracy": accuracy, "iou": dict(zip(CLASSES, per_class))}
        for folder in sorted(p for p in Path(args.sets).iterdir() if p.is_dir()) if args.sets else []:
            only = {"default"} if args.only_default else None
            result = anomaly(run, folder, manifest["outputs"]["features"], manifest["scoring"], only)
            report[folder.name] = result
            print(f"{folder.name}: AP / AUROC / FPR95")
            for name, values in result.items():
                print(f"  {name:45s} " + " / ".join(f"{v:5.1f}" for v in values), flush=True)
    except (DataError, OSError, KeyError, tomllib.TOMLDecodeError) as error:
        sys.exit(f"evaluate: {error}")
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
