"""Temporal smoothing on the sample clip: pixel AP, FPR at 95 % TPR and flicker for several weights of the newest map.

    python samples/smoothing.py --program target/release/oodstream [--weights 1.0 0.7 0.5 0.3]

Needs NumPy and Pillow. Every frame counts. Flicker: the mean over pairs of neighbouring frames of the share of pixels whose
mask changes, among pixels that show the same class in both frames and lie more than 4 pixels from any border between
classes in either: what moves through the picture is left out with its edges. Masks are made at the threshold of the
model's manifest.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent
BORDER = 4
BINS = 1 << 16
UNKNOWN = 254


def truth(path):
    """The label maps of the clip, `[frames, h, w]` u8."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        return np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names])


def near_border(labels):
    """Bool `[h, w]`: within BORDER pixels of another class."""
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    for axis in (0, 1):
        grown = edge.copy()
        for shift in range(1, BORDER + 1):
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= edge[tuple(behind)]
            grown[tuple(behind)] |= edge[tuple(ahead)]
        edge = grown
    return edge


def average_precision(scores, anomalous):
    """(AP, FPR at 95 % TPR) in percent, over BINS equal steps of the score."""
    low, high = scores.min(), scores.max()
    step = ((scores - low) * ((BINS - 1) / (high - low))).astype(np.int32)
    hit = np.cumsum(np.bincount(step[anomalous], minlength=BINS)[::-1])
    false = np.cumsum(np.bincount(step[~anomalous], minlength=BINS)[::-1])
    gain = np.diff(hit, prepend=0)
    precision = hit / np.maximum(hit + false, 1)
    at = np.searchsorted(hit, 0.95 * hit[-1])
    return 100 * float((gain * precision).sum() / hit[-1]), 100 * false[at] / false[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=Path)
    parser.add_argument("--clip", type=Path, default=ROOT / "street.mp4")
    parser.add_argument("--labels", type=Path, default=ROOT / "street.labels.zip")
    parser.add_argument("--model", type=Path, default=ROOT.parent / "models/default.onnx")
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 0.7, 0.5, 0.3])
    args = parser.parse_args()
    threshold = tomllib.loads(args.model.with_suffix(".toml").read_text())["scoring"]["threshold"]
    labels = truth(args.labels)
    borders = [near_border(frame) for frame in labels]
    still = [(a == b) & ~p & ~q for a, b, p, q in zip(labels, labels[1:], borders, borders[1:])]
    for weight in args.weights:
        with tempfile.TemporaryDirectory() as folder:
            command = [args.program, "run", args.clip, "-m", args.model, "-q", "-o", "none", "-o", f"scores:{folder}"]
            subprocess.run([*command, "--set", f"detect.smoothing={weight}"], check=True)
            files = sorted(Path(folder).glob("*.npy"))
            if len(files) != len(labels):
                sys.exit(f"{args.clip}: {len(files)} score maps, {len(labels)} label maps")
            scores = np.stack([np.load(file).astype(np.float32) for file in files])
        if scores.shape != labels.shape:
            sys.exit(f"score maps are {scores.shape[1:]}, label maps {labels.shape[1:]}")
        marked = scores >= threshold
        flicker = np.mean([(a != b)[keep].mean() for a, b, keep in zip(marked, marked[1:], still)])
        ap, fpr = average_precision(scores.ravel(), labels.ravel() == UNKNOWN)
        recall = marked[labels == UNKNOWN].mean()
        print(f"smoothing {weight:.1f}: AP {ap:.2f}, FPR95 {fpr:.2f}, flicker {100 * flicker:.3f} %, "
              f"marked {100 * marked.mean():.2f} % (of the unknown {100 * recall:.1f} %)", flush=True)


if __name__ == "__main__":
    main()
