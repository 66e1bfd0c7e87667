#!/usr/bin/env python3
"""Checks of the InternImage exporter that need no checkpoint.

    python models/export/check_internimage.py [--variants T S B L XL "H, narrow" "G, narrow"] [--folder DIR]

1. DCNv3 against a slow reference written from the formula: loops, float64, an explicitly padded frame.
2. Strict loading: a state dict with the official layout, written down here by itself, loads; one that lacks a key and
   has one too many is refused, and the error names both.
3. The one file per tensor that the exporter of PyTorch leaves above 2 GB becomes one file, and none of them stays.
4. DCNv3's mixing of what was sampled with the centre of each group (H, G), against the same layer without it.
5. Files that are no whole checkpoint, each refused with one line.
6. Every variant with both heads: PyTorch against ONNX Runtime below 1e-3 at 64x128, random weights; no operator outside
   the standard domain. H and G are narrower than they are, since they hold 1 and 3 thousand million parameters. For the first variant also free size, f16, external data and every feature stage.
"""

import argparse
import dataclasses
import math
import pathlib
import tempfile

import onnx
import torch
from torch import nn

from common import load_checkpoint, tidy
from internimage import CheckpointError, build, load_strictly, write
from internimage_network import STAGES, VARIANTS, DCNv3, Segmenter, Variant, deformable_sampling

NARROW = {
    "H, narrow": dataclasses.replace(VARIANTS["H"], channels=32, depths=(2, 2, 7, 2), groups=(2, 4, 8, 16), level2_norms=(2, 5)),
    "G, narrow": dataclasses.replace(VARIANTS["G"], channels=48, depths=(1, 1, 6, 1), groups=(3, 6, 12, 24), level2_norms=(2, 5)),
}
"""The structure of the two largest at a width that any machine can run."""


def reference_sampling(value, offset, mask, groups, scale):
    """DCNv3 by its formula, one sample at a time, in a frame padded by one pixel of zeros on every side."""
    batch, height, width, channels = value.shape
    depth = channels // groups
    padded = torch.zeros(batch, height + 2, width + 2, channels, dtype=torch.float64)
    padded[:, 1:-1, 1:-1] = value.double()

    def bilinear(image, y, x, first):
        total = torch.zeros(depth, dtype=torch.float64)
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height + 2 and 0 <= column < width + 2:
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    total += share * padded[image, row, column, first : first + depth]
        return total

    out = torch.zeros(batch, height, width, channels, dtype=torch.float64)
    for image in range(batch):
        for row in range(height):
            for column in range(width):
                for group in range(groups):
                    for kx in (-1, 0, 1):
                        for ky in (-1, 0, 1):
                            point = (kx + 1) * 3 + ky + 1
                            at = (group * 9 + point) * 2
                            dx, dy = (float(offset[image, row, column, at + axis]) for axis in (0, 1))
                            x = column + 1 + scale * (kx + dx)
                            y = row + 1 + scale * (ky + dy)
                            weight = float(mask[image, row, column, group * 9 + point])
                            sample = bilinear(image, y, x, group * depth)
                            out[image, row, column, group * depth : (group + 1) * depth] += weight * sample
    return out


def check_tidiness() -> None:
    shape = [64, 64, 3, 3]
    picture, features = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64, 8, 8]) for name in ("x", "y"))
    weights = [onnx.numpy_helper.from_array(torch.full(shape, number).numpy(), f"w{number}") for number in (1.0, 2.0)]
    convolutions = [onnx.helper.make_node("Conv", [source, weight.name], [target], pads=[1, 1, 1, 1])
                    for source, weight, target in zip(("x", "middle"), weights, ("middle", "y"))]
    model = onnx.helper.make_model(onnx.helper.make_graph(convolutions, "two", [picture], [features], weights))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "two.onnx"
        onnx.save(model, str(path), save_as_external_data=True, all_tensors_to_one_file=False)
        scattered = sorted(file.name for file in path.parent.iterdir())
        assert scattered == ["two.onnx", "w1.0", "w2.0"], scattered
        tidy(path, True)
        assert sorted(file.name for file in path.parent.iterdir()) == ["two.onnx", "two.onnx.data"]
        assert (onnx.numpy_helper.to_array(onnx.load(str(path)).graph.initializer[1]) == 2).all()
    print("scattered weights are gathered")


def check_sampling() -> None:
    for scale in (1.0, 2.0):
        torch.manual_seed(int(scale))
        batch, height, width, groups, depth = 2, 5, 7, 3, 4
        value = torch.randn(batch, height, width, groups * depth)
        offset = 1.5 * torch.randn(batch, height, width, groups * 18)  # far enough to leave the map
        mask = torch.randn(batch, height, width, groups, 9).softmax(-1).flatten(3)
        expected = reference_sampling(value, offset, mask, groups, scale)
        error = (deformable_sampling(value, offset, mask, groups, scale) - expected).abs().max().item()
        print(f"DCNv3 against the float64 loops, offset scale {scale:g}: {error:.2e}")
        if error > 1e-5:
            raise SystemExit("DCNv3 is wrong")
        # The reference must be able to fail: y-major points give another result.
        swapped = offset.reshape(batch, height, width, groups, 3, 3, 2).transpose(4, 5).flatten(3)
        if (deformable_sampling(value, swapped, mask, groups, scale) - expected).abs().max() < 1e-2:
            raise SystemExit("the check cannot tell x-major from y-major points")


def official_layout(variant: Variant, head: str, outputs: int) -> dict[str, tuple[int, ...]]:
    """Key to shape of a public checkpoint, from the layout of OpenGVLab/InternImage and mmsegmentation 0.x."""
    keys: dict[str, tuple[int, ...]] = {}

    def affine(name: str, *shape: int) -> None:
        keys[f"{name}.weight"] = shape
        keys[f"{name}.bias"] = shape[:1]

    def conv_module(name: str, inputs: int, outputs: int, kernel: int) -> None:
        keys[f"{name}.conv.weight"] = (outputs, inputs, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            keys[f"{name}.bn.{part}"] = (outputs,)
        keys[f"{name}.bn.num_batches_tracked"] = ()

    c = variant.channels
    affine("backbone.patch_embed.conv1", c // 2, 3, 3, 3)
    affine("backbone.patch_embed.norm1.1", c // 2)
    affine("backbone.patch_embed.conv2", c, c // 2, 3, 3)
    affine("backbone.patch_embed.norm2.1", c)
    widths = [c, 2 * c, 4 * c, 8 * c]
    for level, (w, depth, groups) in enumerate(zip(widths, variant.depths, variant.groups, strict=True)):
        for index in range(depth):
            block = f"backbone.levels.{level}.blocks.{index}"
            affine(f"{block}.norm1.0", w)
            affine(f"{block}.dcn.dw_conv.0", w, 1, variant.dw_kernel, variant.dw_kernel)
            affine(f"{block}.dcn.dw_conv.1.1", w)
            affine(f"{block}.dcn.offset", groups * 18, w)
            affine(f"{block}.dcn.mask", groups * 9, w)
            affine(f"{block}.dcn.input_proj", w, w)
            affine(f"{block}.dcn.output_proj", w, w)
            affine(f"{block}.norm2.0", w)
            affine(f"{block}.mlp.fc1", 4 * w, w)
            affine(f"{block}.mlp.fc2", w, 4 * w)
            if variant.layer_scale:
                keys[f"{block}.gamma1"] = keys[f"{block}.gamma2"] = (w,)
            if variant.center_feature_scale:
                keys[f"{block}.dcn.center_feature_scale_proj_weight"] = (groups, w)
                keys[f"{block}.dcn.center_feature_scale_proj_bias"] = (groups,)
            if variant.res_post_norm:
                affine(f"{block}.res_post_norm1.0", w)
                affine(f"{block}.res_post_norm2.0", w)
        if level == 2:
            for index in range(len(variant.level2_norms)):
                affine(f"backbone.levels.2.post_norms.{index}.0", w)
        if not variant.post_norm or variant.center_feature_scale:
            affine(f"backbone.levels.{level}.norm.0", w)
        if level < 3:
            keys[f"backbone.levels.{level}.downsample.conv.weight"] = (2 * w, w, 3, 3)
            affine(f"backbone.levels.{level}.downsample.norm.1", 2 * w)
    if head == "uper":
        for index in range(4):
            conv_module(f"decode_head.psp_modules.{index}.1", 8 * c, 512, 1)
        conv_module("decode_head.bottleneck", 8 * c + 4 * 512, 512, 3)
        for index in range(3):
            conv_module(f"decode_head.lateral_convs.{index}", widths[index], 512, 1)
            conv_module(f"decode_head.fpn_convs.{index}", 512, 512, 3)
        conv_module("decode_head.fpn_bottleneck", 4 * 512, 512, 3)
        affine("decode_head.conv_seg", outputs, 512, 1, 1)
        conv_module("auxiliary_head.convs.0", 4 * c, 256, 3)
        affine("auxiliary_head.conv_seg", outputs, 256, 1, 1)
    elif head == "mask2former":
        mask2former_layout(affine, keys, widths, outputs)
    else:
        for index in range(4):
            conv_module(f"decode_head.convs.{index}", widths[index], 256, 1)
        conv_module("decode_head.fusion_conv", 4 * 256, 256, 1)
        affine("decode_head.conv_seg", outputs, 256, 1, 1)
    return keys


def mask2former_layout(affine, keys: dict[str, tuple[int, ...]], widths: list[int], classes: int, width: int = 64) -> None:
    """The keys of the Mask2Former head, with 64 channels, 2 heads, 10 queries, 2 layers before the queries and 3 after."""
    pixels, heads, queries, hidden = "decode_head.pixel_decoder", 2, 10, 96
    for index, inputs in enumerate(reversed(widths[1:])):
        affine(f"{pixels}.input_convs.{index}.conv", width, inputs, 1, 1)
        affine(f"{pixels}.input_convs.{index}.gn", width)
    for layer in range(2):
        name = f"{pixels}.encoder.layers.{layer}"
        affine(f"{name}.attentions.0.sampling_offsets", heads * 3 * 4 * 2, width)
        affine(f"{name}.attentions.0.attention_weights", heads * 3 * 4, width)
        affine(f"{name}.attentions.0.value_proj", width, width)
        affine(f"{name}.attentions.0.output_proj", width, width)
        affine(f"{name}.ffns.0.layers.0.0", hidden, width)
        affine(f"{name}.ffns.0.layers.1", width, hidden)
        affine(f"{name}.norms.0", width)
        affine(f"{name}.norms.1", width)
    keys[f"{pixels}.level_encoding.weight"] = (3, width)
    keys[f"{pixels}.lateral_convs.0.conv.weight"] = (width, widths[0], 1, 1)
    affine(f"{pixels}.lateral_convs.0.gn", width)
    keys[f"{pixels}.output_convs.0.conv.weight"] = (width, width, 3, 3)
    affine(f"{pixels}.output_convs.0.gn", width)
    affine(f"{pixels}.mask_feature", width, width, 1, 1)
    for layer in range(3):
        name = f"decode_head.transformer_decoder.layers.{layer}"
        for attention in range(2):
            keys[f"{name}.attentions.{attention}.attn.in_proj_weight"] = (3 * width, width)
            keys[f"{name}.attentions.{attention}.attn.in_proj_bias"] = (3 * width,)
            affine(f"{name}.attentions.{attention}.attn.out_proj", width, width)
        affine(f"{name}.ffns.0.layers.0.0", hidden, width)
        affine(f"{name}.ffns.0.layers.1", width, hidden)
        for norm in range(3):
            affine(f"{name}.norms.{norm}", width)
    affine("decode_head.transformer_decoder.post_norm", width)
    keys["decode_head.query_embed.weight"] = keys["decode_head.query_feat.weight"] = (queries, width)
    keys["decode_head.level_embed.weight"] = (3, width)
    affine("decode_head.cls_embed", classes + 1, width)
    for layer in (0, 2, 4):
        affine(f"decode_head.mask_embed.{layer}", width, width)


def random_state(layout: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Weights that keep the activations near unit size and move the sampling points by about a pixel."""
    state = {}
    for key, shape in layout.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=torch.int64)
        elif key.endswith("running_var"):
            state[key] = torch.rand(shape) + 0.5
        elif key.endswith(("bias", "running_mean")):
            state[key] = 0.1 * torch.randn(shape)
        elif key.endswith(("gamma1", "gamma2")):
            state[key] = 0.3 + 0.1 * torch.randn(shape)
        elif len(shape) == 1:
            state[key] = 1 + 0.1 * torch.randn(shape)
        else:
            state[key] = torch.randn(shape) / math.sqrt(math.prod(shape[1:]))
    return state


def check_centre() -> None:
    """With a share of 1 each group gives its own centre, with 0 what was sampled; in between a mean by the sigmoid."""
    torch.manual_seed(0)
    plain = DCNv3(24, 3, dataclasses.replace(VARIANTS["T"], dw_kernel=5)).eval()
    mixed = DCNv3(24, 3, dataclasses.replace(VARIANTS["T"], dw_kernel=5, center_feature_scale=True)).eval()
    mixed.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 6, 5, 24)
    with torch.no_grad():
        sampled, centre = plain(x), plain.output_proj(plain.input_proj(x))
        for share, expected in ((-50.0, sampled), (50.0, centre), (0.0, (sampled + centre) / 2)):
            mixed.center_feature_scale_proj_bias.fill_(share)
            error = (mixed(x) - expected).abs().max().item()
            if error > 1e-6:
                raise SystemExit(f"the share of the centre is wrong by {error:.2e}")
        # One group alone, seen before the last product.
        mixed.output_proj = nn.Identity()
        plain.output_proj = nn.Identity()
        mixed.center_feature_scale_proj_bias.copy_(torch.tensor([-50.0, 50.0, -50.0]))
        expected = torch.cat([plain(x)[..., :8], plain.input_proj(x)[..., 8:16], plain(x)[..., 16:]], -1)
        if (mixed(x) - expected).abs().max() > 1e-6:
            raise SystemExit("the shares of the groups are mixed up")
    print("each group mixes with its own centre")


def check_damage() -> None:
    """What is no checkpoint ends the program with one line that says what it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "weights.pth"
        for content, words in [
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
            (b"", "not a whole PyTorch checkpoint"),
            (b"PK\x03\x04 cut off", "not a whole PyTorch checkpoint"),
            (bytes(range(256)) * 8, "not a whole PyTorch checkpoint"),
        ]:
            path.write_bytes(content)
            try:
                load_checkpoint(path)
            except SystemExit as error:
                if words not in str(error) or "\n" in str(error) or "weights_only" in str(error):
                    raise SystemExit(f"the error for {content[:16]} is: {error}") from None
                continue
            raise SystemExit(f"{content[:16]} was loaded")
    print("damaged checkpoints are one line each")


def check_strictness() -> None:
    variant = VARIANTS["T"]
    state = random_state(official_layout(variant, "uper", 150))
    gone, extra = "backbone.levels.2.blocks.7.dcn.mask.bias", "backbone.levels.0.blocks.0.dcn.center_feature_scale_proj_bias"
    del state[gone]
    state[extra] = torch.zeros(4)
    try:
        load_strictly(Segmenter(variant, "uper", 150, ["fused"]), state)
    except CheckpointError as error:
        if gone not in str(error) or extra not in str(error):
            raise SystemExit(f"the error does not list both keys: {error}") from None
        print("a missing and a left-over key are refused, both are named")
    else:
        raise SystemExit("a state dict that does not fit was loaded")


def check_export(name: str, head: str, folder: pathlib.Path, **options) -> None:
    torch.manual_seed(0)
    stages = options.pop("stages", ["fused"])
    outputs, classes = (150, 19) if head == "uper" else (19, 19)
    network = build(random_state(official_layout(VARIANTS[name], head, outputs)), classes, stages)
    path = folder / f"{name.replace(', ', '_')}_{head}.onnx"
    text = ", ".join([f"{key} {value}" for key, value in options.items()])
    print(f"InternImage-{name} {head} {text}".rstrip() + ":")
    worst = write(network, path, (64, 128), **options)
    operators = {node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node}
    if "GridSample" not in operators:
        raise SystemExit("there is no GridSample in the graph")
    limit = 5e-2 if options.get("fp16") else 1e-3
    if worst > limit:
        raise SystemExit(f"ONNX Runtime differs by {worst:.2e}, more than {limit:g}")
    for file in folder.glob(path.name + "*"):
        file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    VARIANTS.update(NARROW)
    usual = [name for name in VARIANTS if name not in ("H", "G")]
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=usual)
    parser.add_argument("--heads", nargs="+", choices=["uper", "segformer", "mask2former"], default=["uper", "segformer"],
                        help="mask2former needs the transformers package (families.txt)")
    parser.add_argument("--folder", type=pathlib.Path, help="where the files go meanwhile (default: a temporary folder)")
    arguments = parser.parse_args()
    check_tidiness()
    check_sampling()
    check_centre()
    check_damage()
    check_strictness()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for index, name in enumerate(arguments.variants):
            for head in arguments.heads:
                check_export(name, head, pathlib.Path(folder))
            if index == 0 and "mask2former" not in arguments.heads:
                check_export(name, "uper", pathlib.Path(folder), dynamic=True)
                check_export(name, "segformer", pathlib.Path(folder), fp16=True)
                check_export(name, "uper", pathlib.Path(folder), external_data=True)
                check_export(name, "segformer", pathlib.Path(folder), stages=list(STAGES))
    print("all passed")


if __name__ == "__main__":
    main()
