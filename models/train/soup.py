"""Average the weights of several checkpoints of one variant (model soup, Wortsman et al. 2022).

    python models/train/soup.py OUT.ckpt A.ckpt B.ckpt ...

The runs must have started from one another (--init), else their weights do not lie in one valley.
"""

import argparse
import sys

import torch

import checkpoint


def average(states):
    """One checkpoint state whose logits carry no loss weights."""
    if len({state["variant"] for state in states}) != 1:
        raise checkpoint.CheckpointError("checkpoints of different variants cannot be averaged")
    for state in states:
        state["average"]["classifier.bias"] = state["average"]["classifier.bias"] - state["weights"].log()
    first = states[0]["average"]
    mean = {key: sum(s["average"][key] for s in states) / len(states) if value.dtype.is_floating_point else value
            for key, value in first.items()}
    return {"variant": states[0]["variant"], "weights": torch.ones_like(states[0]["weights"]), "average": mean}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("checkpoints", nargs="+")
    args = parser.parse_args()
    try:
        checkpoint.save(args.out, average([checkpoint.load(path) for path in args.checkpoints]))
    except checkpoint.CheckpointError as error:
        sys.exit(f"soup: {error}")


if __name__ == "__main__":
    main()
