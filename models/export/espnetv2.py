#!/usr/bin/env python3
"""ESPNetv2 for semantic segmentation (arXiv 1811.11431) as ONNX.

    python models/export/espnetv2.py --weights espnetv2_s_2.0_city_1024x512.pth -o espnetv2.onnx

The layers carry the names of the public checkpoints (sacmehta/EdgeNets), so a state dict loads strictly: a missing or a
left-over key is an error. The graph is exported at one size, because the pooling pyramid depends on it.
"""

import argparse
import math
import pathlib

import numpy
import torch
from torch import nn
from torch.nn import functional

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

CHANNELS = {0.5: [16, 32, 64, 128], 1.0: [32, 64, 128, 256], 1.25: [32, 80, 160, 320], 1.5: [32, 96, 192, 384], 2.0: [32, 128, 256, 512]}
"""Width multiplier to channels at strides 2, 4, 8, 16 (section 4 of the paper)."""
BRANCHES = 4
USED_CLASSES = 19
PYRAMID_SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
SIZE = (576, 1024)
SCORING = """\
# score = sum of weight * (statistic - mean) / std; mean and std over CamVid train,
# threshold: marks 1 % of the pixels of CamVid val (void left out in both).
[scoring]
k = [8, 16, 30]
seed = 4
unit_length = true
upsampling = "guided"
threshold = 1.90674

[[scoring.terms]]
statistic = "energy"
unit = "cluster"
weight = 1.0
mean = -10.773963
std = 2.517278

[[scoring.terms]]
statistic = "energy"
unit = "pixel"
weight = 0.1
mean = -10.804678
std = 3.112500
"""
"""The default score of `models/train/scoring.toml`, for the public weights at `SIZE`: `models/train/calibrate.py` over CamVid."""


class PReLU(nn.PReLU):
    """max(x, 0) + a min(x, 0): the same function as ONNX's PRelu, in operators that ONNX Runtime vectorises."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, min=0) + self.weight.view(-1, 1, 1) * torch.clamp(x, max=0)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = kernel // 2 * dilation
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


class Layer(nn.Module):
    """Convolution, batch normalisation and PReLU, each optional, under the encoder's names."""

    def __init__(self, conv: nn.Conv2d | None = None, norm: int = 0, act: bool = False):
        super().__init__()
        if conv is not None:
            self.conv = conv
        if norm:
            self.bn = nn.BatchNorm2d(norm)
        if act:
            self.act = PReLU(norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.children():
            x = step(x)
        return x


class Named(nn.Module):
    """A sequence under one name, as the decoder's keys have it (`cbr.0`, `br.1`)."""

    def __init__(self, name: str, *steps: nn.Module):
        super().__init__()
        self.add_module(name, nn.Sequential(*steps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.children():
            x = step(x)
        return x


def cbr(inputs: int, outputs: int, kernel: int, groups: int = 1) -> Named:
    return Named("cbr", convolution(inputs, outputs, kernel, groups=groups), nn.BatchNorm2d(outputs), PReLU(outputs))


class EESP(nn.Module):
    """Depth-wise dilated convolutions of one reduced map, summed hierarchically, merged by grouped 1x1 (section 3.2)."""

    def __init__(self, inputs: int, outputs: int, stride: int, receptive_field: int):
        super().__init__()
        width = outputs // BRANCHES
        self.proj_1x1 = Layer(convolution(inputs, width, 1, groups=BRANCHES), width, act=True)
        # A branch whose 3x3 would see more than the limit falls back to dilation 1; smallest first.
        dilations = sorted(branch + 1 if 3 + 2 * branch <= receptive_field else 1 for branch in range(BRANCHES))
        self.spp_dw = nn.ModuleList(Layer(convolution(width, width, 3, stride, width, d)) for d in dilations)
        self.conv_1x1_exp = Layer(convolution(outputs, outputs, 1, groups=BRANCHES), outputs)
        self.br_after_cat = Layer(norm=outputs, act=True)
        self.module_act = PReLU(outputs)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reduced = self.proj_1x1(x)
        branches: list[torch.Tensor] = []
        for branch in self.spp_dw:
            out = branch(reduced)
            branches.append(out + branches[-1] if branches else out)
        merged = self.conv_1x1_exp(self.br_after_cat(torch.cat(branches, 1)))
        # The strided unit's activation comes after its concatenation with the pooled input, in `DownSampler`.
        return merged if self.stride == 2 else self.module_act(merged + x)


class DownSampler(nn.Module):
    """Halves the map: pooled input beside a strided EESP, plus a shortcut from the picture (section 3.3)."""

    def __init__(self, inputs: int, outputs: int, receptive_field: int):
        super().__init__()
        self.eesp = EESP(inputs, outputs - inputs, 2, receptive_field)
        self.inp_reinf = nn.Sequential(Layer(convolution(3, 3, 3), 3, act=True), Layer(convolution(3, outputs, 1), outputs))
        self.act = PReLU(outputs)

    def forward(self, x: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        out = torch.cat([functional.avg_pool2d(x, 3, 2, 1), self.eesp(x)], 1)
        while picture.shape[2] > out.shape[2]:
            picture = functional.avg_pool2d(picture, 3, 2, 1)
        return self.act(out + self.inp_reinf(picture))


class Encoder(nn.Module):
    def __init__(self, channels: list[int]):
        super().__init__()
        self.level1 = Layer(convolution(3, channels[0], 3, 2), channels[0], act=True)
        self.level2_0 = DownSampler(channels[0], channels[1], 13)
        self.level3_0 = DownSampler(channels[1], channels[2], 11)
        self.level3 = nn.ModuleList(EESP(channels[2], channels[2], 1, 9) for _ in range(3))
        self.level4_0 = DownSampler(channels[2], channels[3], 9)
        self.level4 = nn.ModuleList(EESP(channels[3], channels[3], 1, 7) for _ in range(7))

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.level1(picture)]
        maps.append(self.level2_0(maps[-1], picture))
        for down, units in ((self.level3_0, self.level3), (self.level4_0, self.level4)):
            x = down(maps[-1], picture)
            for unit in units:
                x = unit(x)
            maps.append(x)
        return maps


def pooling_matrix(size: int, target: int) -> torch.Tensor:
    """`[target, size]`: row i averages what adaptive average pooling averages for output i."""
    matrix = numpy.zeros((target, size), numpy.float32)  # NumPy, so that tracing sees one constant
    for row in range(target):
        first, last = row * size // target, -(-(row + 1) * size // target)
        matrix[row, first:last] = 1 / (last - first)
    return torch.from_numpy(matrix)


def pool_to(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Adaptive average pooling to a size that is known when exporting, in standard operators.

    Whole ratios are plain pooling, 3 to 2 (the pyramid's scale 1.5) is cheap too, anything else is constant matrices.
    """
    rows, columns = int(x.shape[2]), int(x.shape[3])
    if rows % height == 0 and columns % width == 0:
        return functional.avg_pool2d(x, (rows // height, columns // width))
    if all(2 * size == 3 * target and size % 3 == 0 for size, target in ((rows, height), (columns, width))):
        return two_of_three(two_of_three(x, 3), 2)
    return pooling_matrix(rows, height) @ (x @ pooling_matrix(columns, width).T.contiguous())


def two_of_three(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Averages windows of two that start at 0 and 1 of every three along `axis`."""
    window, step = ((2, 1), (3, 1)) if axis == 2 else ((1, 2), (1, 3))
    starts = [functional.avg_pool2d(x.narrow(axis, first, int(x.shape[axis]) - first), window, step) for first in (0, 1)]
    return torch.stack(starts, axis + 1).flatten(axis, axis + 1)


def resize_to(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return functional.interpolate(x, (height, width), mode="bilinear", align_corners=True)


class PyramidPool(nn.Module):
    """Depth-wise convolutions at five scales of one map, shuffled and merged."""

    def __init__(self, inputs: int, width: int, outputs: int, last: bool = False):
        super().__init__()
        count = len(PYRAMID_SCALES)
        self.stages = nn.ModuleList(convolution(width, width, 3, groups=width) for _ in PYRAMID_SCALES)
        self.projection_layer = cbr(inputs, width, 1)
        self.merge_layer = nn.Sequential(
            Named("br", nn.BatchNorm2d(width * count), PReLU(width * count)),
            nn.Identity(),  # the shuffle below, which has no parameters
            cbr(width * count, width, 3, groups=width),
            nn.Conv2d(width, outputs, 1, bias=last),
        )
        if not last:
            self.br = Named("br", nn.BatchNorm2d(outputs), PReLU(outputs))

    def shuffle(self, x: torch.Tensor) -> torch.Tensor:
        count = len(PYRAMID_SCALES)
        _, channels, height, width = (int(size) for size in x.shape)
        return x.reshape(1, count, channels // count, height, width).transpose(1, 2).reshape(1, channels, height, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.projection_layer(x)
        height, width = int(x.shape[2]), int(x.shape[3])
        maps = []
        for scale, stage in zip(PYRAMID_SCALES, self.stages, strict=True):
            rows, columns = max(5, math.ceil(height * scale)), max(5, math.ceil(width * scale))
            if scale > 1:
                maps.append(pool_to(stage(resize_to(x, rows, columns)), height, width))
            elif scale < 1:
                maps.append(resize_to(stage(pool_to(x, rows, columns)), height, width))
            else:
                maps.append(stage(x))
        merge = self.merge_layer
        x = merge[3](merge[2](self.shuffle(merge[0](torch.cat(maps, 1)))))
        return self.br(x) if hasattr(self, "br") else x


class Gate(nn.Module):
    """An encoder map brought to the decoder's width and weighted per channel by its own mean."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.wt_layer = nn.Sequential(nn.Identity(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sigmoid())
        self.expansion_layer = cbr(inputs, outputs, 3, groups=math.gcd(inputs, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.expansion_layer(x) * self.wt_layer(x.mean((2, 3), keepdim=True))


class ESPNetv2(nn.Module):
    """RGB picture `[1, 3, H, W]` (ImageNet normalisation, H and W multiples of 32) to `logits` `[1, outputs, H/2, W/2]` and
    `features` `[1, 32, H/8, W/8]`: the map before the last pyramid, averaged over 4x4."""

    def __init__(self, scale: float = 2.0, outputs: int = 20, width: int = 16):
        super().__init__()
        channels = CHANNELS[scale]
        planes = [4 * width, 3 * width, 2 * width, outputs]
        self.base_net = Encoder(channels)
        pyramid = min(outputs // 2, width)
        self.bu_dec_l1 = PyramidPool(channels[3], pyramid, planes[0])
        self.bu_dec_l2 = PyramidPool(planes[0], pyramid, planes[1])
        self.bu_dec_l3 = PyramidPool(planes[1], pyramid, planes[2])
        self.bu_dec_l4 = PyramidPool(planes[2], pyramid, planes[3], last=True)
        self.merge_enc_dec_l2 = Gate(channels[2], planes[0])
        self.merge_enc_dec_l3 = Gate(channels[1], planes[1])
        self.merge_enc_dec_l4 = Gate(channels[0], planes[2])
        self.bu_br_l2, self.bu_br_l3, self.bu_br_l4 = (nn.Sequential(nn.BatchNorm2d(p), PReLU(p)) for p in planes[:3])

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        *skips, deepest = self.base_net(picture)
        x = self.bu_dec_l1(deepest)
        steps = (
            (self.merge_enc_dec_l2, self.bu_br_l2, self.bu_dec_l2),
            (self.merge_enc_dec_l3, self.bu_br_l3, self.bu_dec_l3),
            (self.merge_enc_dec_l4, self.bu_br_l4, self.bu_dec_l4),
        )
        for skip, (gate, normalise, pyramid) in zip(reversed(skips), steps, strict=True):
            fused = normalise(gate(skip) + resize_to(x, int(skip.shape[2]), int(skip.shape[3])))
            x = pyramid(fused)
        return x, functional.avg_pool2d(fused, 4)


def load(weights: pathlib.Path) -> ESPNetv2:
    """The Cityscapes network of a public checkpoint; every key must be used and every parameter be given.

    The checkpoint has a 20th output for "ignored", which was never trained as a class: it is cut off.
    """
    state = load_checkpoint(weights)
    network = ESPNetv2()
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise SystemExit(f"{weights}: not ESPNetv2 s=2.0 ({str(error).strip().splitlines()[0]})") from None
    classifier = network.bu_dec_l4.merge_layer[3]
    classifier.weight = nn.Parameter(classifier.weight[:USED_CLASSES])
    classifier.bias = nn.Parameter(classifier.bias[:USED_CLASSES])
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=pathlib.Path, required=True, help="state dict of ESPNetv2 s=2.0, Cityscapes")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="NAME.onnx")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("H", "W"), help="multiples of 32 (default: 576 1024)")
    arguments = parser.parse_args()
    if any(side < 32 or side % 32 for side in arguments.size):
        parser.error(f"--size {arguments.size[0]} {arguments.size[1]}: both must be multiples of 32")
    network = load(arguments.weights)
    torch.manual_seed(0)
    pictures = [torch.randn(1, 3, *arguments.size) for _ in range(2)]
    outputs = ["logits", "features"]
    export(network, pictures[0], arguments.output, outputs)
    print(f"wrote {arguments.output}")
    worst = difference(network, arguments.output, pictures, outputs)
    if worst > 1e-3:
        raise SystemExit(f"ONNX Runtime differs from PyTorch by {worst:.2e}, more than 1e-3")
    size = tuple(arguments.size)
    if size != SIZE:
        print("no [scoring] in the manifest: its figures belong to 576x1024; models/train/calibrate.py makes others")
    write_manifest(
        arguments.output,
        name="ESPNetv2 s=2.0, Cityscapes",
        licence="MIT",
        source="https://github.com/sacmehta/EdgeNets, arXiv 1811.11431",
        size=size,
        features=["features"],
        classes=class_table("cityscapes"),
        scoring=SCORING if size == SIZE else "",
    )
    picture = test_picture(*size)
    with torch.no_grad():
        logits = network(prepared(picture, IMAGENET_MEAN, IMAGENET_STD))[0]
    write_pair(arguments.output, picture, logits)


if __name__ == "__main__":
    main()
