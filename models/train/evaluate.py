"""Measure an exported model: segmentation and marked people, anomaly scores, ordinary pictures and clips.

    python models/train/evaluate.py --model models/default.onnx --data DATA --teacher NAME.onnx --sets SETS
        --ordinary PICTURES --program target/release/oodstream --clips A.mp4 B.mp4 [--json FILE]

--data: a folder per source, as for training: CamVid's test split gives the segmentation and the share of each class's
pixels that is marked, IDD lite's val split the share of people that is marked (with --teacher, which says who they are).
--sets: a folder of sets, each with images/ and masks/ of equal file stems (0 = known, 1 = anomaly, 255 = void); pixel
metrics at the ground truth's resolution over all pixels of a set together. --ordinary: pictures without anything
unknown, every second of which is taken (the others are for fitting): the share of them with a region that an alarm could
come of. --clips: ordinary video, which the program runs over with its defaults: events.
The network sees every image at its own input size. Scores are brought to the picture's size bilinearly.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import sources
from data import HEIGHT, IMAGE_SUFFIXES, WIDTH, DataError, Frames, label_id
from export import session
from metrics import average_precision, confusion, segmentation_metrics
from people import Teacher, preparation
from scoring import STATISTICS, cluster_labels, fused, term_map, to_grid, upsample

CLUSTER_KS = (5, 10, 20, 40)
ENSEMBLE = (5, 10, 20)
# CamVid's classes; what CamVid has no class for counts as the class that CamVid puts it in.
CAMVID = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
IN_CAMVID = {"terrain": "tree"}
# The smallest region that the program reports, as a share of the picture.
SMALLEST_REGION = 0.0005
# Regions are found in a picture of this size.
REGION_SIZE = (HEIGHT // 2, WIDTH // 2)


class Model:
    """An ONNX file with its manifest."""

    def __init__(self, path, threads):
        manifest = tomllib.loads(path.with_suffix(".toml").read_text())
        self.scoring, self.features = manifest["scoring"], manifest["outputs"]["features"]
        self.prepare, self.run = preparation(manifest["input"]), session(str(path), threads)
        self.to_camvid = np.array([CAMVID.index(IN_CAMVID.get(n, n)) for n in manifest["classes"]["names"]])

    def maps(self, image):
        """(logits at stride 4, logits on the grid, feature maps) of an image [h, w, 3] u8."""
        outputs = [m[0] for m in self.run.run(["logits", *self.features], {"input": self.prepare(image)})]
        return outputs[0], to_grid(outputs[0], outputs[1].shape[1:]), outputs[1:]

    def score(self, grid_logits, features):
        """The default score on the grid."""
        labels = cluster_labels(features, grid_logits.shape[1:], self.scoring["k"], self.scoring["seed"])
        return fused(self.scoring["terms"], grid_logits, labels, self.scoring["k"])

    def marked(self, image, size):
        """Bool [size]: the pixels of an image, seen at that size, whose default score reaches the threshold."""
        _, logits, features = self.maps(image)
        return upsample(self.score(logits, features), size) >= self.scoring["threshold"]


def camvid(model, frames):
    """(mean IoU, pixel accuracy, IoU per class, marked share per class) at the labels' resolution, in percent."""
    matrix = np.zeros((len(CAMVID), len(CAMVID)), np.int64)
    marked, count = np.zeros(len(CAMVID)), np.zeros(len(CAMVID))
    for image, label in zip(frames.images, frames.labels):
        logits, grid_logits, features = model.maps(image)
        full = F.interpolate(torch.from_numpy(logits)[None], size=label.shape, mode="bilinear", align_corners=False)
        matrix += confusion(label, model.to_camvid[full[0].argmax(0).numpy()], len(CAMVID))
        over = upsample(model.score(grid_logits, features), label.shape) >= model.scoring["threshold"]
        known = label < len(CAMVID)
        marked += np.bincount(label[known], over[known], len(CAMVID))
        count += np.bincount(label[known], minlength=len(CAMVID))
    return *segmentation_metrics(matrix), 100 * marked / np.maximum(count, 1)


def marked_people(model, frames):
    """Share of the pixels of people that is marked, in percent."""
    people = label_id("pedestrian", "bicyclist")
    marked = count = 0
    for image, label in zip(frames.images, frames.labels):
        if (label == people).any():
            marked += np.count_nonzero(model.marked(image, label.shape)[label == people])
            count += np.count_nonzero(label == people)
    return 100 * marked / max(count, 1)


def largest_region(mask):
    """Pixels of the largest 8-connected region of a mask [h, w]."""
    h, w = mask.shape
    labels = np.where(mask, np.arange(1, h * w + 1).reshape(h, w), 0)
    while True:
        padded = np.pad(labels, 1)
        grown = np.max([padded[y:y + h, x:x + w] for y in range(3) for x in range(3)], 0) * mask
        # Each pixel's label is the number of a pixel, whose own label leads further.
        grown = np.concatenate([[0], grown.ravel()])[grown]
        if np.array_equal(grown, labels):
            return int(np.bincount(labels.ravel())[1:].max(initial=0))
        labels = grown


def pictures_with_regions(model, folder):
    """(share of the pictures with a marked region of at least SMALLEST_REGION, mean share of marked pixels), in percent."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)[1::2]
    if not paths:
        raise DataError(f"{folder}: fewer than two JPEG, PNG or WebP images")
    found, share = [], []
    for path in paths:
        mask = model.marked(np.asarray(Image.open(path).convert("RGB")), REGION_SIZE)
        found.append(largest_region(mask) >= SMALLEST_REGION * mask.size)
        share.append(mask.mean())
    return 100 * float(np.mean(found)), 100 * float(np.mean(share))


def events(program, model, clip):
    """Number of events that the program reports of a clip."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        done = subprocess.run([program, "run", clip, "-m", model, "-o", "none", "-o", f"events:{path}", "-q"], check=False)
        # 3: the clip is damaged and all that could be read was read.
        if done.returncode not in (0, 3):
            raise DataError(f"{program} ended with {done.returncode} on {clip}")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    return len({line["id"] for line in lines if line["alarm"]})


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


def anomaly(model, folder, only=None):
    """{method: (AP, AUROC, FPR95)} in percent over one set."""
    table = {name: f for name, f in methods(model.scoring).items() if only is None or name in only}
    positive = {name: [] for name in table}
    negative = {name: [] for name in table}
    for image_path, mask_path in pairs(folder):
        image = np.asarray(Image.open(image_path).convert("RGB"))
        mask = np.asarray(Image.open(mask_path))
        _, logits, features = model.maps(image)
        grid = logits.shape[1:]
        first = cluster_labels(features[:1], grid, CLUSTER_KS, model.scoring["seed"]) if only is None else None
        default = cluster_labels(features, grid, model.scoring["k"], model.scoring["seed"])
        for name, method in table.items():
            score = upsample(method(logits, first, default), mask.shape)
            positive[name].append(score[mask == 1])
            negative[name].append(score[mask == 0])
    return {name: average_precision(np.concatenate(positive[name]), np.concatenate(negative[name])) for name in table}


def measure(args):
    """The report of all that was asked for, printed on the way."""
    model = Model(args.model, args.threads)
    report = {"model": args.model.name}
    if args.data:
        raw = np.arange(256, dtype=np.uint8)
        miou, accuracy, iou, marked = camvid(model, Frames.read(args.data / "camvid" / args.split, raw))
        print(f"CamVid {args.split}: mIoU {miou:.2f} %, pixel accuracy {accuracy:.2f} %")
        for title, values in (("IoU", iou), ("marked", marked)):
            print(f"  {title}: " + ", ".join(f"{c} {v:.1f}" for c, v in zip(CAMVID, values)), flush=True)
        report["camvid"] = {"miou": miou, "accuracy": accuracy, "iou": dict(zip(CAMVID, iou)),
                            "marked": dict(zip(CAMVID, marked))}
    if args.data and args.teacher:
        teacher = Teacher(args.teacher, None, args.threads)
        report["idd_people_marked"] = marked_people(model, sources.load("idd_lite", args.data, "val", teacher))
        print(f"IDD lite val: {report['idd_people_marked']:.2f} % of the pixels of people marked", flush=True)
    for folder in sorted(p for p in args.sets.iterdir() if p.is_dir()) if args.sets else []:
        report[folder.name] = anomaly(model, folder, {"default", "max-logit"} if args.only_default else None)
        print(f"{folder.name}: AP / AUROC / FPR95")
        for name, values in report[folder.name].items():
            print(f"  {name:45s} " + " / ".join(f"{v:5.1f}" for v in values), flush=True)
    if args.ordinary:
        found, share = report["ordinary"] = pictures_with_regions(model, args.ordinary)
        print(f"ordinary pictures: {found:.1f} % with a marked region, {share:.2f} % of the pixels marked", flush=True)
    for clip in args.clips:
        report.setdefault("events", {})[Path(clip).name] = events(args.program, args.model, clip)
        print(f"{Path(clip).name}: {report['events'][Path(clip).name]} events", flush=True)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="ONNX file; its manifest lies beside it")
    parser.add_argument("--data", type=Path, help="folder with a folder per source")
    parser.add_argument("--split", default="test")
    parser.add_argument("--teacher", help="network that tells people from animals, as in train.py")
    parser.add_argument("--sets", type=Path, help="folder of anomaly sets")
    parser.add_argument("--only-default", action="store_true", help="score sets with the default and max-logit alone")
    parser.add_argument("--ordinary", type=Path, help="folder of pictures")
    parser.add_argument("--program", help="oodstream, for --clips")
    parser.add_argument("--clips", nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.clips and not args.program:
        parser.error("--clips needs --program")
    try:
        report = measure(args)
    except (DataError, OSError, KeyError, ValueError, tomllib.TOMLDecodeError) as error:
        sys.exit(f"evaluate: {error}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
