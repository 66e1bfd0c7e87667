"""Export a checkpoint: ONNX with weights stored in 16 bits, checked against PyTorch, and the manifest beside it.

    python models/train/export.py --checkpoint OUT/final.ckpt --data DIR --teacher NAME.onnx --out OUT
"""

import argparse
import hashlib
import os
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import checkpoint
import footage
import sources
from calibrate import RECIPE, calibrate, scoring_text
from data import CLASSES, HEIGHT, MEAN, PALETTE, STD, WIDTH, DataError, normalise, resize_to_input
from distance import fit
from network import SegmentationNet
from people import Teacher

OPSET = 17
OUTPUTS = ["logits", "features", "features_1", "features_2", "features_3"]
TOLERANCE = 1e-3


class ExportError(Exception):
    """An export that must not be used; the message is one line."""


class Outputs(nn.Module):
    """What the ONNX file gives: logits at stride 4; decoder map at stride 8; ImageNet maps at strides 8, 16 and 32.

    With `Distances` the logits of a pixel are all lowered by its distance from the training data.
    """

    def __init__(self, net, distances=None):
        super().__init__()
        self.net, self.distances = net, distances
        # The exporter puts back the mode it finds: a wrapper left in training mode would switch the network's norms.
        self.eval()

    def forward(self, image):
        logits, decoder, maps = self.net(image)
        if self.distances is not None:
            named = dict(zip(OUTPUTS[2:], maps[1:]))
            logits = logits - self.distances(named, (int(logits.shape[-2]), int(logits.shape[-1])))
        return logits, F.avg_pool2d(decoder, 2), *maps[1:]


def load_net(path):
    """The averaged weights of a checkpoint, its loss weights undone, as a network in inference mode; and its variant."""
    state = checkpoint.load(path)
    net = SegmentationNet(len(state["weights"]), state["variant"])
    net.load_state_dict(state["average"])
    undo_class_weights(net, state["weights"])
    return net.eval(), state["variant"]


def undo_class_weights(net, weights):
    """Take the loss weights out of the logits: softmax then estimates the plain class probabilities.

    A loss that weighs class c by w_c trains p_c * w_c / sum; subtracting ln w_c from the logit of c gives p_c back
    (logit adjustment, Menon et al. 2021). It raises the pixel accuracy and keeps rare classes from being overconfident.
    """
    with torch.no_grad():
        net.classifier.bias -= weights.log()


def session(model, threads=2):
    """An ONNX Runtime CPU session on a path or on serialised bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads sleep: spinning costs more than it gains where others compute, too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def half_weights(model):
    """A copy whose convolution weights are stored as float16, each with a Cast to float32 behind it.

    ONNX Runtime folds the casts when it loads the file, so a frame costs what it did before.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        # The distance is a difference of large numbers and stays in 32 bits.
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 4 or tensor.name.startswith("distances."):
            continue
        full = numpy_helper.to_array(tensor)
        if np.abs(full).max() > np.finfo(np.float16).max:
            raise ExportError(f"weight {tensor.name}: {np.abs(full).max():.3g} does not fit 16 bits")
        name = tensor.name
        half = numpy_helper.from_array(full.astype(np.float16), name + "_half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name=name + "_cast", to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    onnx.checker.check_model(model)
    return model


def trim_pads(model):
    """Leave the value of each Pad out where the exporter wrote an empty name: ONNX Runtime then fuses the Pad into the
    convolution behind it."""
    for node in model.graph.node:
        while node.op_type == "Pad" and node.input[-1] == "":
            del node.input[-1]


def to_onnx(outputs):
    """Trace `Outputs`; the spatial size is fixed, the batch is not."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"oodstream-export-{os.getpid()}.onnx"
    with warnings.catch_warnings():
        # Sizes are meant to become constants.
        warnings.simplefilter("ignore")
        torch.onnx.export(outputs, (torch.zeros(2, 3, HEIGHT, WIDTH),), str(path), input_names=["input"],
                          output_names=OUTPUTS, opset_version=OPSET, dynamo=False,
                          dynamic_axes={name: {0: "batch"} for name in ["input", *OUTPUTS]})
    try:
        model = onnx.load(str(path))
    finally:
        path.unlink(missing_ok=True)
    trim_pads(model)
    for value in model.graph.output:
        size = {"logits": (HEIGHT // 4, WIDTH // 4), "features_2": (-(-HEIGHT // 16), WIDTH // 16),
                "features_3": (-(-HEIGHT // 32), WIDTH // 32)}.get(
            value.name, (HEIGHT // 8, WIDTH // 8))
        for dim, n in zip(value.type.tensor_type.shape.dim[2:], size):
            dim.Clear()
            dim.dim_value = n
    onnx.checker.check_model(model)
    return model


def largest_difference(outputs, model, images):
    """Largest absolute difference per output between PyTorch and ONNX Runtime, on batches of 1 and of all images."""
    run = session(model.SerializeToString())
    worst = np.zeros(len(OUTPUTS))
    for batch in (images[:1], images):
        with torch.no_grad():
            want = outputs(torch.from_numpy(batch))
        got = run.run(OUTPUTS, {"input": batch})
        for i, (a, b) in enumerate(zip(want, got)):
            if tuple(a.shape) != b.shape:
                raise ExportError(f"output {OUTPUTS[i]}: PyTorch gives {tuple(a.shape)}, ONNX Runtime {b.shape}")
            worst[i] = max(worst[i], float(np.abs(a.numpy() - b).max()))
    return dict(zip(OUTPUTS, worst))


def write_atomically(path, data):
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(data)
    os.replace(aside, path)


def licence(names):
    """Under which terms weights trained on these sources may be used."""
    if set(names) <= {"rendered"}:
        return "Apache-2.0 (backbone), CC0-1.0 (rendered training frames)"
    if set(names) <= {"rendered", "own"}:
        return "as the training frames"
    return "research and evaluation only (trained on " + ", ".join(n for n in names if n != "rendered") + ")"


def manifest(variant, classes, names, digest, scoring):
    """The text of `NAME.toml`; see the program's documentation of the model manifest."""
    def numbers(values):
        return "[" + ", ".join(f"{v:.6f}" for v in values) + "]"

    lines = [
        "[model]", f'name = "oodstream-{variant}"', f'licence = "{licence(names)}"',
        f'source = "models/train: EfficientNet-{variant.capitalize()} backbone, ImageNet then {", ".join(names)}"',
        f'sha256 = "{digest}"', "",
        "[input]", 'name = "input"', f"width = {WIDTH}", f"height = {HEIGHT}", 'layout = "nchw"', 'dtype = "f32"',
        f"mean = {numbers([MEAN] * 3)}", f"std = {numbers([STD] * 3)}", 'resize = "stretch"', "",
        "[outputs]", 'logits = "logits"',
        "features = [" + ", ".join(f'"{f}"' for f in scoring["features"]) + "]", "",
        "[classes]", "names = [" + ", ".join(f'"{c}"' for c in classes) + "]",
        "palette = [" + ", ".join(str(list(c)) for c in PALETTE[:len(classes)]) + "]",
    ]
    return "\n".join(lines) + "\n\n" + scoring_text(scoring, names[0])


def export(path, data, names, out, name="default", teacher=None, ordinary=()):
    """Write OUT/NAME.onnx and OUT/NAME.toml from a checkpoint, or raise `ExportError`.

    The distance is fitted to the sources `names` in DATA, to photographs alone where there are any, and a plain one
    where there are none; the first source, which needs a val split, calibrates the score.
    With files of `ordinary` footage the distance takes in their frames, labelled by the network.
    """
    out = Path(out)
    net, variant = load_net(path)
    train = {source: sources.load(source, data, "train", teacher) for source in names}
    val = sources.load(names[0], data, "val", teacher)
    # The distance is fitted to the features that the stored weights give, rounding included.
    features = session(half_weights(to_onnx(Outputs(net))).SerializeToString())
    ordinary_sources = sources.photographs(names)
    fitted = [train[source] for source in ordinary_sources]
    if ordinary:
        fitted.append(footage.labelled(features, ordinary))
    # Renderings do not vary as photographs do in light and camera, which a relative distance discounts.
    outputs = Outputs(net, fit(features, fitted, is_relative="rendered" not in ordinary_sources))
    model = to_onnx(outputs)
    images = np.stack([normalise(resize_to_input(image)) for image in val.images[:: max(len(val) // 4, 1)][:4]])
    full = largest_difference(outputs, model, images)
    print("ONNX (32 bit) against PyTorch, largest difference:", {k: f"{v:.2e}" for k, v in full.items()}, flush=True)
    if not max(full.values()) < TOLERANCE:
        raise ExportError(f"ONNX differs from PyTorch by {max(full.values()):.3g}, at most {TOLERANCE} is allowed")
    model = half_weights(model)
    half = largest_difference(outputs, model, images)
    print("ONNX (16-bit weights) against PyTorch, largest difference:", {k: f"{v:.2e}" for k, v in half.items()}, flush=True)
    payload = model.SerializeToString()
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / f"{name}.onnx", payload)
    recipe = tomllib.loads(RECIPE.read_text())
    prepare = lambda image: normalise(resize_to_input(image))[None]
    scoring = calibrate(session(payload), prepare, recipe, train[names[0]], val)
    classes = CLASSES[:net.classifier.out_channels]
    text = manifest(variant, classes, names, hashlib.sha256(payload).hexdigest(), scoring)
    write_atomically(out / f"{name}.toml", text.encode())
    print(f"{out / name}.onnx: {len(payload) / 1e6:.2f} MB, manifest beside it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True, help="folder with a folder per source")
    parser.add_argument("--sources", default=",".join(sources.DEFAULT), help="for the distance; the first calibrates")
    parser.add_argument("--teacher", help="for idd_lite, as in train.py")
    parser.add_argument("--footage", nargs="+", metavar="FILE", default=[],
                        help="ordinary videos and pictures without labels that the distance is fitted to as well")
    parser.add_argument("--out", required=True)
    parser.add_argument("--name", default="default")
    args = parser.parse_args()
    try:
        names = sources.names(args.sources)
        teacher = Teacher(args.teacher, args.out) if args.teacher else None
        export(args.checkpoint, args.data, names, args.out, args.name, teacher, args.footage)
    except (ExportError, DataError, checkpoint.CheckpointError) as error:
        sys.exit(f"export: {error}")


if __name__ == "__main__":
    main()
