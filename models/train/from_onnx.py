"""Turn an exported ONNX file back into a checkpoint that `train.py --init` takes.

    python models/train/from_onnx.py --model models/default.onnx --data DIR --out shipped.ckpt

An export folds each norm into the convolution before it. Here the convolution keeps the folded weights and the norm gets
the mean and variance that ordinary frames (DATA/SOURCE) give in front of it, with the gain and bias that undo both: the
network computes what the file computes, and can be trained on. The loss weights are already out of an exported
classifier, and the distances from the training data are left out (`export.py` fits them anew). The result is compared with
the file on real frames, distances included, and refused if any output differs by 1e-3 or more; a quantised file counts
without the rounding of its activations.
"""

import argparse
import sys

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

import checkpoint
import sources
from data import CLASSES, DataError, normalise, resize_to_input
from distance import LEVELS, Distance, Distances
from export import TOLERANCE, ExportError, Outputs, largest_difference
from network import VARIANTS, SegmentationNet

# Frames that the norm statistics are taken from, evenly spread.
STATISTICS_FRAMES = 48


def read(path):
    """The model of an ONNX file."""
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
    except Exception as error:  # what protobuf and the checker raise has no common type
        raise ExportError(f"{path}: not an ONNX file that can be read") from error
    return model


def in_floats(model):
    """A copy that leaves tensors in floats which a quantised file brings to 8 bits and back; weights stay rounded."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    makers = {node.output[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in makers:
            tensor = makers[node.input[0]].input[0]
            node.op_type = "Identity"
            del node.input[:]
            node.input.append(tensor)
    return model


def module_name(node):
    """Path of the module that a traced node came from: `/net/stem/stem.0/Conv` is `net.stem.0`."""
    parts = node.split("/")[1:-1]
    # A child of a list or sequence repeats the parent's name.
    return ".".join(p for p, after in zip(parts, [*parts[1:], ""]) if not after.startswith(p + "."))


def convolutions(model):
    """{module path: (weight, bias)} of every convolution, in 32 bits."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            codes, scale = (values[name] for name in node.input[:2])
            values[node.output[0]] = codes * scale.reshape(-1, *[1] * (codes.ndim - 1))
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            if len(node.input) != 3 or not all(name in values for name in node.input[1:]):
                raise ExportError(f"node {node.name}: want a convolution with a stored weight and bias")
            found[module_name(node.name)] = [torch.tensor(values[name].astype(np.float32)) for name in node.input[1:]]
    return found


def norm_of(modules, name):
    """The norm behind convolution `name` of a sequence, or None."""
    parent, _, index = name.rpartition(".")
    following = modules.get(f"{parent}.{int(index) + 1}") if index.isdigit() else None
    return following if isinstance(following, nn.BatchNorm2d) else None


def load_folded(net, found):
    """Copy folded weights into the network; its norms then only add the folded bias."""
    modules = dict(net.named_modules())
    for name, module in modules.items():
        if not isinstance(module, nn.Conv2d):
            continue
        weight, bias = found.pop("net." + name, (None, None))
        if weight is None or weight.shape != module.weight.shape:
            raise ExportError(f"convolution {name}: missing in the file or of another shape")
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)
            continue
        norm = norm_of(modules, name)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.copy_(bias)


def give_statistics(net, images):
    """Set each norm's mean and variance to those of its input over `images`, and its gain and bias so that nothing changes."""
    sums = {}

    def note(norm, inputs):
        x = inputs[0].double()
        count, total, square = sums.get(norm, (0, 0, 0))
        sums[norm] = count + x[:, 0].numel(), total + x.sum((0, 2, 3)), square + (x * x).sum((0, 2, 3))

    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    for image in images:
        net(torch.from_numpy(image[None]))
    for hook in hooks:
        hook.remove()
    for norm, (count, total, square) in sums.items():
        mean = total / count
        variance = (square / count - mean * mean).clamp(min=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias += mean


def distances_of(found):
    """The file's distances, or None."""
    levels = {}
    for level in LEVELS:
        parts = [found.pop(f"distances.{level}.{name}", None) for name in ("whiten", "cross")]
        if None in parts:
            continue
        (whiten, _), (cross, _) = parts
        levels[level] = Distance(np.zeros(len(whiten)), np.zeros(whiten.shape[:2]), np.zeros(cross.shape[:2]))
        for module, (weight, bias) in zip((levels[level].whiten, levels[level].cross), parts):
            module.weight.copy_(weight)
            module.bias.copy_(bias)
    return Distances(levels) if levels else None


@torch.no_grad()
def recover(model, variant, images):
    """(network in inference mode, largest difference from the file) of an exported model; images [n, 3, H, W] f32."""
    found = convolutions(model)
    classes = found["net.classifier"][0].shape[0] if "net.classifier" in found else len(CLASSES)
    net = SegmentationNet(classes, variant).eval()
    load_folded(net, found)
    distances = distances_of(found)
    if found:
        raise ExportError(f"convolution {sorted(found)[0]}: not part of this network; another --variant?")
    give_statistics(net, images)
    check = images[:: max(len(images) // 4, 1)][:4]
    return net, max(largest_difference(Outputs(net, distances), in_floats(model), check).values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a file that export.py wrote")
    parser.add_argument("--data", required=True, help="folder with a folder per source")
    parser.add_argument("--source", choices=sorted(sources.SOURCES), default="camvid",
                        help="whose frames give the norm statistics and check the result")
    parser.add_argument("--out", required=True, help="the checkpoint")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="lite1")
    args = parser.parse_args()
    try:
        model = read(args.model)
        frames = sources.load(args.source, args.data).images
        chosen = frames[:: max(len(frames) // STATISTICS_FRAMES, 1)][:STATISTICS_FRAMES]
        net, difference = recover(model, args.variant, np.stack([normalise(resize_to_input(f)) for f in chosen]))
        print(f"checkpoint against {args.model}, largest difference: {difference:.2e}")
        if not difference < TOLERANCE:
            raise ExportError(f"outputs differ by {difference:.3g}, at most {TOLERANCE} is allowed")
        state = {"variant": args.variant, "weights": torch.ones(net.classifier.out_channels), "average": net.state_dict()}
        checkpoint.save(args.out, state)
    except (ExportError, DataError, checkpoint.CheckpointError) as error:
        sys.exit(f"from_onnx: {error}")


if __name__ == "__main__":
    main()
