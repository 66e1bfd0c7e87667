"""Mean and deviation of each term of a score, and its threshold, from ordinary labelled frames.

    python models/train/calibrate.py --model NAME.onnx --data DIR

computes them for the recipe in scoring.toml and writes them into `NAME.toml` in place of its `[scoring]`; the network
stays as it is. DIR holds a folder per source, of which --source is taken.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import sources
from data import VOID, DataError
from people import Teacher, preparation
from scoring import cluster_labels, fused, term_map, to_grid

# One frame in three: neighbours in a sequence say the same.
STRIDE = 3
MARKED_SHARE = 0.005
RECIPE = Path(__file__).parent / "scoring.toml"


def known_on_grid(label, grid):
    """Bool [h_0, w_0]: grid pixels whose label is not void."""
    small = Image.fromarray(label).resize((grid[1], grid[0]), Image.NEAREST)
    return np.asarray(small) != VOID


def scored_frames(run, prepare, recipe, frames):
    """For each frame (logits on the grid, cluster labels, known pixels)."""
    for image, label in zip(frames.images[::STRIDE], frames.labels[::STRIDE]):
        maps = run.run(["logits", *recipe["features"]], {"input": prepare(image)})
        features = [m[0] for m in maps[1:]]
        grid = features[0].shape[1:]
        labels = {}
        if any(term["unit"] == "cluster" for term in recipe["terms"]):
            labels = cluster_labels(features, grid, recipe["k"], recipe["seed"])
        yield to_grid(maps[0][0], grid), labels, known_on_grid(label, grid)


def calibrate(run, prepare, recipe, train, val, share=MARKED_SHARE):
    """The recipe (features, k, seed, upsampling, terms with statistic, unit, weight) with mean, deviation and threshold filled in.

    Mean and deviation come from the frames `train`; the threshold marks `share` of the pixels of `val`. Void pixels are left
    out.
    """
    samples = [[] for _ in recipe["terms"]]
    for logits, labels, known in scored_frames(run, prepare, recipe, train):
        for term, values in zip(recipe["terms"], samples):
            values.append(term_map(term["statistic"], term["unit"], logits, labels, recipe["k"])[known])
    terms = []
    for term, values in zip(recipe["terms"], samples):
        values = np.concatenate(values).astype(np.float64)
        terms.append({**term, "mean": float(values.mean()), "std": float(values.std())})
    scores = [fused(terms, logits, labels, recipe["k"])[known]
              for logits, labels, known in scored_frames(run, prepare, recipe, val)]
    threshold = float(np.quantile(np.concatenate(scores), 1 - share))
    return {**recipe, "terms": terms, "threshold": threshold}


def scoring_text(scoring, source, share=MARKED_SHARE):
    """The `[scoring]` section of a manifest."""
    lines = [
        f"# score = sum of weight * (statistic - mean) / std; mean and std over {source} train,",
        f"# threshold: marks {100 * share:g} % of the pixels of {source} val (void left out in both).",
        "[scoring]", f"k = {scoring['k']}", f"seed = {scoring['seed']}", "unit_length = true",
        f'upsampling = "{scoring["upsampling"]}"',
        f"threshold = {scoring['threshold']:.5f}",
    ]
    for term in scoring["terms"]:
        lines += ["", "[[scoring.terms]]", f'statistic = "{term["statistic"]}"', f'unit = "{term["unit"]}"',
                  f"weight = {term['weight']}", f"mean = {term['mean']:.6f}", f"std = {term['std']:.6f}"]
    return "\n".join(lines) + "\n"


def calibrate_file(model, data, source, teacher=None, threads=2, share=MARKED_SHARE):
    """Write mean and deviation of the recipe's terms and its threshold into the manifest beside an ONNX file."""
    path = model.with_suffix(".toml")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    text = path.read_text()
    run = onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])
    prepare = preparation(tomllib.loads(text)["input"])
    train, val = (sources.load(source, data, split, teacher) for split in ("train", "val"))
    scoring = calibrate(run, prepare, tomllib.loads(RECIPE.read_text()), train, val, share)
    # `[scoring]` with the comment above it and its terms, up to the next other section.
    others = re.sub(r"(?ms)^(#[^\n]*\n)*\[scoring\].*?(?=^\[(?!\[?scoring)|\Z)", "", text).rstrip("\n")
    path.write_text(others + "\n\n" + scoring_text(scoring, source, share))
    print(f"{path}: threshold {scoring['threshold']:.5f}, " + ", ".join(
        f"{t['statistic']}/{t['unit']} mean {t['mean']:.6f} std {t['std']:.6f}" for t in scoring["terms"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="ONNX file; its manifest lies beside it")
    parser.add_argument("--data", required=True, type=Path, help="folder with a folder per source")
    parser.add_argument("--source", choices=sorted(sources.SOURCES), default="camvid", help="one with train and val")
    parser.add_argument("--teacher", help="for idd_lite, as in train.py")
    parser.add_argument("--marked-share", type=float, default=MARKED_SHARE, metavar="SHARE",
                        help="of the ordinary pixels of val, which the threshold marks [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    try:
        teacher = Teacher(args.teacher, None, args.threads) if args.teacher else None
        calibrate_file(args.model, args.data, args.source, teacher, args.threads, args.marked_share)
    except (DataError, OSError, KeyError, tomllib.TOMLDecodeError) as error:
        sys.exit(f"calibrate: {error}")


if __name__ == "__main__":
    main()
