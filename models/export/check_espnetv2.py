#!/usr/bin/env python3
"""Checks of the ESPNetv2 exporter: exactness of its pooling, PyTorch against ONNX Runtime, and anomaly scores of max-logit.

    python models/export/check_espnetv2.py --weights espnetv2_s_2.0_city_1024x512.pth [--sets DIR] [--antialias]

--sets: a folder with fs_static and road_obstacle21_val, each with images/ and masks/ (0 known, 1 anomaly, 255 void). The
average precision (all pixels of a set together, at the masks' resolution) must be within 1 of an independent
implementation's figures. Those were measured with pictures that are shrunk by plain bilinear sampling; with --antialias
they are shrunk with a filter as wide as the ratio, nothing is compared, and the figures are better.
"""

import argparse
import pathlib
import tempfile

import numpy
import torch
from PIL import Image
from torch.nn import functional

from common import IMAGENET_MEAN, IMAGENET_STD, difference, export, session
from espnetv2 import load, pool_to

SIZE = (576, 1024)
EXPECTED = {"fs_static": 11.2, "road_obstacle21_val": 2.3}
"""Average precision of max-logit in percent."""


def check_pooling() -> None:
    torch.manual_seed(0)
    for (rows, columns), (height, width) in (((48, 96), (32, 64)), ((36, 60), (18, 30)), ((36, 64), (5, 7)), ((27, 51), (18, 34)), ((54, 97), (36, 65))):
        x = torch.randn(1, 3, rows, columns)
        error = (pool_to(x, height, width) - functional.adaptive_avg_pool2d(x, (height, width))).abs().max().item()
        print(f"pooling {rows}x{columns} to {height}x{width}: {error:.1e} from adaptive average pooling")
        if error > 1e-6:
            raise SystemExit("pooling is wrong")


def average_precision(anomalous: numpy.ndarray, known: numpy.ndarray) -> float:
    """Area under the precision-recall curve in percent, step-wise, equal scores taken together."""
    scores = numpy.concatenate([anomalous, known])
    order = numpy.argsort(-scores, kind="stable")
    scores = scores[order]
    hits = numpy.cumsum(order < len(anomalous))
    last = numpy.append(numpy.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    precision = hits[last] / (last + 1)
    recall = numpy.diff(hits[last], prepend=0) / len(anomalous)
    return 100 * float((precision * recall).sum())


def picture(path: pathlib.Path, antialias: bool) -> numpy.ndarray:
    rgb = torch.from_numpy(numpy.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1).copy())[None].float() / 255
    rgb = functional.interpolate(rgb, SIZE, mode="bilinear", align_corners=False, antialias=antialias)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((rgb - mean) / std).numpy()


def max_logit(runtime, folder: pathlib.Path, antialias: bool) -> float:
    anomalous, known = [], []
    for path in sorted((folder / "images").iterdir()):
        mask = numpy.asarray(Image.open(folder / "masks" / f"{path.stem}.png"))
        (logits,) = runtime.run(["logits"], {"input": picture(path, antialias)})
        # As the public network ends: the logits enlarged to the picture, corners on corners.
        logits = functional.interpolate(torch.from_numpy(logits), SIZE, mode="bilinear", align_corners=True)
        score = -logits.amax(1, keepdim=True)
        score = functional.interpolate(score, mask.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
        anomalous.append(score[mask == 1])
        known.append(score[mask == 0])
    return average_precision(numpy.concatenate(anomalous), numpy.concatenate(known))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=pathlib.Path, required=True)
    parser.add_argument("--sets", type=pathlib.Path)
    parser.add_argument("--antialias", action="store_true")
    arguments = parser.parse_args()
    check_pooling()
    network = load(arguments.weights)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "espnetv2.onnx"
        torch.manual_seed(0)
        pictures = [torch.randn(1, 3, *SIZE)]
        export(network, pictures[0], path, ["logits", "features"])
        if difference(network, path, pictures, ["logits", "features"]) > 1e-3:
            raise SystemExit("ONNX Runtime differs from PyTorch")
        runtime = session(path)
    failed = False
    for name, expected in EXPECTED.items() if arguments.sets else ():
        ap = max_logit(runtime, arguments.sets / name, arguments.antialias)
        print(f"{name}: max-logit AP {ap:.2f}" + ("" if arguments.antialias else f", expected {expected} +- 1"), flush=True)
        failed |= not arguments.antialias and abs(ap - expected) > 1
    if failed:
        raise SystemExit("the average precision is not the expected one")
    print("all passed")


if __name__ == "__main__":
    main()
