"""Average the weights of several checkpoints of one variant (model soup, Wortsman et al. 2022).

    python models/train/soup.py OUT.ckpt A.ckpt B.ckpt ... [--shares 0.7,0.3]

The runs must have started from one another (--init), else their weights do not lie in one valley.
"""

import argparse
import math
import sys

import torch

import checkpoint


def average(states, shares=None):
    """One checkpoint state whose logits carry no loss weights; equal shares of each unless given."""
    shares = shares or [1.0] * len(states)
    if len(shares) != len(states) or not all(math.isfinite(s) and s >= 0 for s in shares) or sum(shares) == 0:
        raise checkpoint.CheckpointError(f"{len(states)} checkpoints need as many shares, none below 0 and not all 0")
    shares = [share / sum(shares) for share in shares]
    if len({state["variant"] for state in states}) != 1:
        raise checkpoint.CheckpointError("checkpoints of different variants cannot be averaged")
    for state in states:
        state["average"]["classifier.bias"] = state["average"]["classifier.bias"] - state["weights"].log()
    first = states[0]["average"]
    mean = {key: sum(share * s["average"][key] for share, s in zip(shares, states)) if value.dtype.is_floating_point else value
            for key, value in first.items()}
    return {"variant": states[0]["variant"], "weights": torch.ones_like(states[0]["weights"]), "average": mean}


def numbers(text):
    """Numbers separated by commas."""
    return [float(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--shares", type=numbers,
                        help="share of each, separated by commas [default: equal]")
    args = parser.parse_args()
    try:
        checkpoint.save(args.out, average([checkpoint.load(path) for path in args.checkpoints], args.shares))
    except checkpoint.CheckpointError as error:
        sys.exit(f"soup: {error}")


if __name__ == "__main__":
    main()
