#!/usr/bin/env python3
"""An official InternImage segmentation checkpoint (OpenGVLab/InternImage, T to XL, H, G; UPerNet, SegFormer or Mask2Former
head) as ONNX.

    python models/export/internimage.py --checkpoint upernet_internimage_t_512x1024_160k_cityscapes.pth \\
        --dataset cityscapes --size 512 1024 -o internimage_t.onnx

Size and head are read off the checkpoint; a Mask2Former head needs the `transformers` package (families.txt). DCNv3 becomes GridSample and arithmetic: the file needs no custom operator.
"""

import argparse
import copy
import pathlib

import torch
from torch import nn

from common import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    class_table,
    difference,
    export,
    load_checkpoint,
    prepared,
    test_picture,
    write_manifest,
    write_pair,
)
from internimage_network import STAGES, VARIANTS, Segmenter

DATASETS = {"cityscapes": "cityscapes", "ade20k": "ade20k", "mapillary": "cityscapes", "mapillary-vistas": "mapillary"}
"""Class tables by what `--dataset` calls the data. The public InternImage checkpoints "mapillary" were trained on pictures
of Mapillary Vistas with labels mapped to the 19 classes of Cityscapes; `mapillary-vistas` is that data set's own classes."""
IGNORED = "auxiliary_head."
"""The head that only training uses."""


class CheckpointError(Exception):
    """The checkpoint is not one of a known InternImage."""


def read_state(path: pathlib.Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint; nothing in the file is executed."""
    content = load_checkpoint(path)
    state = content.get("state_dict", content)
    if not isinstance(state, dict):
        raise CheckpointError(f"its state_dict is a {type(state).__name__}")
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def identify(state: dict[str, torch.Tensor]) -> tuple[str, str, int]:
    """Variant, head and number of outputs of a state dict."""
    queries = "decode_head.cls_embed.weight"
    stem, classifier = "backbone.patch_embed.conv2.weight", queries if queries in state else "decode_head.conv_seg.weight"
    for key in (stem, classifier):
        if key not in state:
            raise CheckpointError(f"no {key} in the checkpoint: it is not an InternImage with a UPerNet, SegFormer or Mask2Former head")
    channels = state[stem].shape[0]
    variant = next((name for name, variant in VARIANTS.items() if variant.channels == channels), None)
    if variant is None:
        known = ", ".join(f"{name} {variant.channels}" for name, variant in VARIANTS.items())
        raise CheckpointError(f"{stem} has {channels} channels; known are {known}")
    if classifier == queries:
        return variant, "mask2former", state[queries].shape[0] - 1
    head = "segformer" if "decode_head.fusion_conv.conv.weight" in state else "uper"
    return variant, head, state[classifier].shape[0]


def load_strictly(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Loads `state` without its auxiliary head.

    Raises `CheckpointError` that lists every missing key, every left-over key and every shape that differs.
    """
    given = {key: value for key, value in state.items() if not key.startswith(IGNORED)}
    wanted = network.state_dict()
    problems = [f"missing: {key}" for key in wanted if key not in given]
    problems += [f"left over: {key}" for key in given if key not in wanted]
    problems += [
        f"shape of {key}: {list(given[key].shape)} in the checkpoint, {list(wanted[key].shape)} in the network"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    if problems:
        raise CheckpointError(f"{len(problems)} keys do not fit\n  " + "\n  ".join(problems))
    network.load_state_dict(given, strict=True)


def build(state: dict[str, torch.Tensor], classes: int | None, stages: list[str], feature_pool: int = 1) -> nn.Module:
    """The network of a state dict with its first `classes` outputs (all with `None`)."""
    variant, head, outputs = identify(state)
    if head == "mask2former":
        if classes is not None and classes != outputs:
            raise CheckpointError(f"the head has {outputs} classes, the data set {classes}")
        try:
            import internimage_mask2former
        except ImportError as error:
            raise CheckpointError(f"a Mask2Former head: {error}; pip install -r models/export/families.txt") from None
        network, state = internimage_mask2former.build(VARIANTS[variant], state)
        load_strictly(network, state)
        return network
    network = Segmenter(VARIANTS[variant], head, outputs, stages, feature_pool)
    load_strictly(network, state)
    if classes is not None and classes != outputs:
        if classes > outputs:
            raise CheckpointError(f"the head has {outputs} outputs, the data set {classes} classes")
        # The public Cityscapes and Mapillary configurations leave 150 outputs; those above the classes were never trained.
        print(f"the head has {outputs} outputs, the first {classes} are the data set's classes: the rest is cut off")
        classifier = network.decode_head.conv_seg
        classifier.weight = nn.Parameter(classifier.weight[:classes].clone())
        classifier.bias = nn.Parameter(classifier.bias[:classes].clone())
    return network.eval()


def output_names(network: nn.Module) -> list[str]:
    if not isinstance(network, Segmenter):
        return ["queries", "masks"]
    stages = network.stages
    return ["logits", *(f"features_{index}" if index else "features" for index in range(len(stages)))]


def write(
    network: nn.Module,
    path: pathlib.Path,
    size: tuple[int, int],
    dynamic: bool = False,
    fp16: bool = False,
    external_data: bool | None = None,
    check: bool = True,
) -> float:
    """Exports `network`; returns the largest relative difference between PyTorch (f32) and ONNX Runtime."""
    names = output_names(network)
    pictures = [torch.randn(1, 3, *size)]
    if dynamic:
        pictures.append(torch.randn(1, 3, size[0] + 32, size[1] + 64))
    expected = network
    if fp16:
        network = copy.deepcopy(network).half()
    export(network, pictures[0], path, names, dynamic, external_data)
    if names[0] == "queries":
        import transformers_seg

        transformers_seg.sample_in_f32(path)
    print(f"wrote {path} ({sum(file.stat().st_size for file in path.parent.glob(path.name + '*')) / 1e6:.1f} MB)")
    return difference(expected, path, pictures, names) if check else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="the official .pth")
    parser.add_argument("--dataset", choices=list(DATASETS), required=True, help="whose classes it was trained on")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="NAME.onnx")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"), help="default: 512 1024")
    parser.add_argument("--dynamic", action="store_true", help="leave height and width free; --size is only what it is traced at")
    parser.add_argument("--fp16", action="store_true", help="weights and arithmetic in f16; input, outputs and sampling stay f32")
    parser.add_argument("--feature-stage", nargs="+", choices=STAGES, default=["fused"], help="default: fused; several give features, features_1, ...")
    parser.add_argument("--feature-pool", type=int, default=1, metavar="N", help="average the features over N x N (default: 1)")
    parser.add_argument("--external-data", action="store_true", help="weights in NAME.onnx.data (always so above 2 GB)")
    parser.add_argument("--no-check", action="store_true", help="do not run the file in ONNX Runtime against PyTorch")
    arguments = parser.parse_args()
    if any(side < 32 or side % 32 for side in arguments.size):
        parser.error(f"--size {arguments.size[0]} {arguments.size[1]}: both must be multiples of 32")
    if arguments.feature_pool < 1:
        parser.error("--feature-pool must be at least 1")

    torch.manual_seed(0)
    classes = class_table(DATASETS[arguments.dataset])
    try:
        state = read_state(arguments.checkpoint)
        variant, head, _ = identify(state)
        if head == "mask2former" and (arguments.dynamic or arguments.fp16 or arguments.feature_stage != ["fused"]):
            parser.error("--dynamic, --fp16 and --feature-stage are not for a Mask2Former head")
        network = build(state, len(classes["names"]), arguments.feature_stage, arguments.feature_pool)
    except CheckpointError as error:
        raise SystemExit(f"{arguments.checkpoint}: {error}") from None
    print(f"InternImage-{variant} with the {head} head, {arguments.dataset}")
    worst = write(
        network,
        arguments.output,
        tuple(arguments.size),
        arguments.dynamic,
        arguments.fp16,
        True if arguments.external_data else None,
        not arguments.no_check,
    )
    limit = 5e-2 if arguments.fp16 else 1e-3
    if worst > limit:
        raise SystemExit(f"ONNX Runtime differs from PyTorch by {worst:.2e}, more than {limit:g}")
    write_manifest(
        arguments.output,
        name=f"InternImage-{variant}, {head}, {arguments.dataset}",
        licence="MIT",
        source=f"https://github.com/OpenGVLab/InternImage, {arguments.checkpoint.name}, arXiv 2211.05778",
        size=None if arguments.dynamic else tuple(arguments.size),
        features=output_names(network)[1:] if head != "mask2former" else [],
        classes=classes,
        outputs={"queries": "queries", "masks": "masks"} if head == "mask2former" else None,
    )
    picture = test_picture(*arguments.size)
    with torch.no_grad():
        found = network(prepared(picture, IMAGENET_MEAN, IMAGENET_STD))
    if head == "mask2former":
        import transformers_seg

        found = [transformers_seg.semantic(*found)]
    write_pair(arguments.output, picture, found[0])


if __name__ == "__main__":
    main()
