"""Quantise an exported network to 8 bits and calibrate its score anew.

    python models/train/quantise.py --model OUT/default.onnx --data DIR --teacher NAME.onnx --out OUT/int8

The convolutions of the backbone and of its tuned copy from stride 8 on are computed in 8-bit integers: pairs of QuantizeLinear and
DequantizeLinear stand in front of them and behind them (activations u8 per tensor, weights i8 per output channel,
biases i32), from which ONNX Runtime and OpenVINO make integer operators. Ranges are the smallest and largest values
over frames of the sources. In floats stay the sums of blocks, which would carry their rounding on from block to block;
strides 2 and 4, where few channels hold the whole picture; context module, decoder, classifier and distances. Nothing
is trained.
"""

import argparse
import hashlib
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import sources
from calibrate import calibrate_file
from data import DataError, normalise, resize_to_input
from export import ExportError, session, trim_pads, write_atomically
from from_onnx import read
from people import Teacher

# Frames per source that give the ranges.
FRAMES = 16
# The backbone and its tuned copy from stride 8 on; what is before and behind them stays in floats.
IN_INTEGERS = re.compile(r"/net/(shallow\.1|deep\.\d|tuned\.\d)/")
# Every so many rows and columns of a depthwise convolution's input are looked at for its rounding.
SPARSE = 3
DAMPING = 0.01
ACTIVATIONS = ("Clip", "Relu")


def simplified(model):
    """The same computation without what is constant: weights in 32 bits, each Pad a part of its convolution."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    trim_pads(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simplified.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(path))


def integer_convolutions(graph):
    """The convolutions that become integer operators."""
    return [n for n in graph.node if n.op_type == "Conv" and IN_INTEGERS.search(n.name)]


def result(graph, conv):
    """Name of what a convolution gives: the output of its activation where it has one."""
    after = [n for n in graph.node if conv.output[0] in n.input]
    return after[0].output[0] if len(after) == 1 and after[0].op_type in ACTIVATIONS else conv.output[0]


def attribute(conv, name, default):
    return next((list(a.ints) or a.i for a in conv.attribute if a.name == name), default)


def windows(x, conv, size):
    """What each weight of a convolution meets in its input [C, h, w]: [groups, weights, pixels]."""
    if attribute(conv, "group", 1) == 1:
        return x.reshape(1, len(x), -1)
    top, left, bottom, right = attribute(conv, "pads", [0] * 4)
    step = attribute(conv, "strides", [1, 1])[0] * SPARSE
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    seen = np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))[:, ::step, ::step]
    return seen.reshape(len(x), -1, size[0] * size[1]).transpose(0, 2, 1)


def statistics(model, convolutions, values, names, images):
    """({name: (smallest, largest)} of tensors, {convolution: products of its inputs [groups, weights, weights]})."""
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    known = {o.name for o in probe.graph.output}
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    run = session(probe.SerializeToString())
    low, high, products = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), {}
    for image in images:
        maps = dict(zip(names, run.run(names, {"input": image[None]})))
        for name, x in maps.items():
            low[name], high[name] = min(low[name], float(x.min())), max(high[name], float(x.max()))
        for conv in convolutions:
            x = windows(maps[conv.input[0]][0], conv, values[conv.input[1]].shape[2:])
            products[conv.name] = products.get(conv.name, 0) + x @ x.transpose(0, 2, 1)
    return {name: (low[name], high[name]) for name in names}, products


def rounded(weight, scale, products):
    """Whole numbers [out, ...] for a weight in units of its scale [out]: each rounding error is made up for by the
    weights after it, as far as the inputs' products allow (Frantar et al. 2023, GPTQ)."""
    groups, size = products.shape[:2]
    w = (weight / scale[:, None, None, None]).astype(np.float64).reshape(groups, -1, size)
    products = products.astype(np.float64)
    diagonal = np.arange(size)
    # A weight whose input is always 0 has no say.
    products[:, diagonal, diagonal] += DAMPING * np.trace(products, axis1=1, axis2=2)[:, None] / size + 1e-12
    upper = np.linalg.cholesky(np.linalg.inv(products)).transpose(0, 2, 1)
    out = np.empty_like(w)
    for i in range(size):
        out[..., i] = np.round(w[..., i]).clip(-127, 127)
        error = (w[..., i] - out[..., i]) / upper[:, None, i, i]
        w[..., i:] -= error[..., None] * upper[:, None, i, i:]
    return out.reshape(weight.shape).astype(np.int8)


def quantise(model, images):
    """A copy of a model of `export.py` with integer convolutions; their ranges and rounding come from `images`."""
    model = simplified(model)
    graph = model.graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    chosen = integer_convolutions(graph)
    if not chosen or any(conv.input[1] not in values for conv in chosen):
        raise ExportError("not a network in floats that export.py wrote")
    results = [result(graph, conv) for conv in chosen]
    names = list(dict.fromkeys([conv.input[0] for conv in chosen] + results))
    ranges, products = statistics(model, chosen, values, names, images)
    scales, added, weights = {}, [], []
    for name, (low, high) in ranges.items():
        scales[name] = np.float32(max(high - low, 1e-6) / 255)
        added += [numpy_helper.from_array(scales[name], name + "_scale"),
                  numpy_helper.from_array(np.uint8(round(-low / scales[name])), name + "_zero")]
    for conv in chosen:
        name, (x, weight, bias) = conv.output[0], conv.input
        # A channel without weights still has a bias, which must fit its 32 bits.
        scale = np.maximum(np.abs(values[weight]).max((1, 2, 3)) / 127, np.abs(values[bias]) / scales[x] / 2 ** 30)
        scale = np.maximum(scale, 1e-12).astype(np.float32)
        of_bias = scale * scales[x]
        for part, data, unit in (("weight", rounded(values[weight], scale, products[conv.name]), scale),
                                 ("bias", np.round(values[bias] / of_bias).astype(np.int32), of_bias)):
            part = f"{name}_{part}"
            added += [numpy_helper.from_array(data, part + "_q"), numpy_helper.from_array(unit, part + "_scale"),
                      numpy_helper.from_array(np.zeros(len(unit), data.dtype), part + "_zero")]
            weights.append(helper.make_node("DequantizeLinear", [part + "_q", part + "_scale", part + "_zero"], [part],
                                            name=part, axis=0))
        conv.input[1], conv.input[2] = f"{name}_weight", f"{name}_bias"
    nodes = list(weights)
    for node in graph.node:
        if node in chosen and node.input[0] not in results:
            # Others read this tensor in floats.
            x = node.input[0]
            node.input[0] = x + "_rounded"
            if not any(n.name == x + "_quantise" for n in nodes):
                nodes += pair_of(x, x, node.input[0])
        for i, name in enumerate(node.output):
            if name in results:
                node.output[i] = name + "_float"
        nodes.append(node)
        for name in node.output:
            if name.endswith("_float"):
                name = name.removesuffix("_float")
                nodes += pair_of(name, name + "_float", name)
    still = {name for node in nodes for name in node.input}
    kept = [t for t in graph.initializer if t.name in still]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *added])
    onnx.checker.check_model(model)
    return model


def pair_of(name, given, wanted):
    """The operators that bring the tensor `given` to 8 bits and back, with the range of `name`."""
    parts = [name + "_scale", name + "_zero"]
    return [helper.make_node("QuantizeLinear", [given, *parts], [name + "_q"], name=name + "_quantise"),
            helper.make_node("DequantizeLinear", [name + "_q", *parts], [wanted], name=name + "_dequantise")]


def quantise_file(path, data, names, out, teacher=None):
    """Write OUT/NAME.onnx and OUT/NAME.toml of a file of `export.py` with its manifest beside it; ranges and rounding come
    from the sources `names` in `data`, the first of which calibrates the score."""
    path, out = Path(path), Path(out)
    model = read(path)
    text = path.with_suffix(".toml").read_text()
    images = []
    for name in names:
        frames = sources.load(name, data, "train", teacher).images
        images += [normalise(resize_to_input(image)) for image in frames[:: max(len(frames) // FRAMES, 1)][:FRAMES]]
    payload = quantise(model, images).SerializeToString()
    out.mkdir(parents=True, exist_ok=True)
    path = out / path.name
    write_atomically(path, payload)
    text = re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{hashlib.sha256(payload).hexdigest()}"', text)
    write_atomically(path.with_suffix(".toml"), text.encode())
    print(f"{path}: {len(payload) / 1e6:.2f} MB, manifest beside it", flush=True)
    calibrate_file(path, data, names[0], teacher)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a file that export.py wrote, its manifest beside it")
    parser.add_argument("--data", required=True, help="folder with a folder per source")
    parser.add_argument("--sources", default=",".join(sources.DEFAULT), help="for the ranges; the first calibrates")
    parser.add_argument("--teacher", help="for idd_lite, as in train.py")
    parser.add_argument("--out", required=True, help="folder for the file and its manifest")
    args = parser.parse_args()
    try:
        # Where export.py has kept what it found.
        teacher = Teacher(args.teacher, Path(args.model).parent) if args.teacher else None
        quantise_file(args.model, args.data, sources.names(args.sources), args.out, teacher)
    except (ExportError, DataError, OSError) as error:
        sys.exit(f"quantise: {error}")


if __name__ == "__main__":
    main()
