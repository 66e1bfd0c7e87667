"""InternImage (arXiv 2211.05778) with the UPerNet and SegFormer heads, in plain PyTorch that traces to standard ONNX.

Modules carry the names of the public checkpoints (OpenGVLab/InternImage, mmsegmentation 0.x), so that a state dict loads
strictly. Maps are channels-last inside the backbone, as the weights of its linear layers want them.
"""

import dataclasses

import torch
from torch import nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class Variant:
    """One size of the backbone, as the public configurations set it."""

    channels: int
    depths: tuple[int, int, int, int]
    groups: tuple[int, int, int, int]
    offset_scale: float
    post_norm: bool
    layer_scale: bool = True
    """Whether layers are scaled (gamma1, gamma2)."""
    res_post_norm: bool = False
    """Whether layers are normalised after as well as before."""
    dw_kernel: int = 3
    """Kernel of the depthwise convolution that offsets and masks are made from."""
    center_feature_scale: bool = False
    """Whether each group mixes what was sampled with its own centre; every level then ends in a normalisation."""
    level2_norms: tuple[int, ...] = ()
    """Blocks of the third level that are followed by a normalisation."""

    def widths(self) -> list[int]:
        return [self.channels * 2**stage for stage in range(4)]


VARIANTS = {
    "T": Variant(64, (4, 4, 18, 4), (4, 8, 16, 32), 1.0, False),
    "S": Variant(80, (4, 4, 21, 4), (5, 10, 20, 40), 1.0, True),
    "B": Variant(112, (4, 4, 21, 4), (7, 14, 28, 56), 1.0, True),
    "L": Variant(160, (5, 5, 22, 5), (10, 20, 40, 80), 2.0, True),
    "XL": Variant(192, (5, 5, 24, 5), (12, 24, 48, 96), 2.0, True),
    "H": Variant(320, (6, 6, 32, 6), (10, 20, 40, 80), 1.0, False, False, True, 5, True, (5, 11, 17, 23, 29)),
    "G": Variant(512, (2, 2, 48, 4), (16, 32, 64, 128), 1.0, True, False, False, 5, True, (5, 11, 17, 23, 29, 35, 41, 47)),
}
"""The MLP is four times as wide as its layer."""

POINTS = 9
"""Sampling points of a 3x3 kernel."""


class Permute(nn.Module):
    def __init__(self, *axes: int):
        super().__init__()
        self.axes = axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(*self.axes)


def to_last() -> Permute:
    return Permute(0, 2, 3, 1)


def to_first() -> Permute:
    return Permute(0, 3, 1, 2)


def layer_norm(channels: int) -> nn.LayerNorm:
    return nn.LayerNorm(channels, eps=1e-6)


def deformable_sampling(
    value: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor, groups: int, offset_scale: float
) -> torch.Tensor:
    """The sum of DCNv3 (equation 2 of the paper): `sum_k m_gk x_g(p0 + s (p_k + dp_gk))` for every group g.

    `value` `[N, H, W, C]`; `offset` `[N, H, W, groups * 9 * 2]`, x before y, in pixels; `mask` `[N, H, W, groups * 9]`,
    already normalised over the 9. The points p_k run x-major: (-1,-1), (-1,0), (-1,1), (0,-1), ... as (x, y). What lies
    outside the map is 0; sampling with zero padding is the same as the reference's sampling in a zero-padded frame.
    Locations are f32 whatever the weights are: f16 cannot place a point in a map of 256 columns to less than 1/8 pixel.
    """
    batch, height, width, channels = value.shape
    depth = channels // groups
    dtype = value.dtype
    first = value.permute(0, 3, 1, 2).reshape(batch * groups, depth, height, width).float()

    steps = torch.tensor([-1.0, 0.0, 1.0])
    points = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(1, 1, POINTS, 2)
    rows = torch.arange(height, dtype=torch.float32)
    columns = torch.arange(width, dtype=torch.float32)
    centre = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), -1)
    centre = centre.reshape(1, height * width, 1, 2)
    moved = offset.float().reshape(batch, height * width, groups, POINTS, 2).transpose(1, 2)
    moved = moved.reshape(batch * groups, height * width, POINTS, 2)
    location = centre + (points + moved) * offset_scale
    # Pixel centres lie at half-integers of the [-1, 1] frame (align_corners=False).
    extent = torch.stack((columns[-1], rows[-1])) + 1
    grid = (2 * location + 1) / extent - 1

    sampled = functional.grid_sample(first, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    weight = mask.reshape(batch, height * width, groups, POINTS).transpose(1, 2)
    weight = weight.reshape(batch * groups, 1, height * width, POINTS)
    summed = (sampled.to(dtype) * weight).sum(-1)
    return summed.reshape(batch, channels, height, width).permute(0, 2, 3, 1)


class DCNv3(nn.Module):
    def __init__(self, channels: int, groups: int, variant: Variant):
        super().__init__()
        kernel = variant.dw_kernel
        depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.dw_conv = nn.Sequential(depthwise, nn.Sequential(to_last(), layer_norm(channels)), nn.GELU())
        self.offset = nn.Linear(channels, groups * POINTS * 2)
        self.mask = nn.Linear(channels, groups * POINTS)
        self.input_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.groups = groups
        self.offset_scale = variant.offset_scale
        self.center_feature_scale = variant.center_feature_scale
        if self.center_feature_scale:
            self.center_feature_scale_proj_weight = nn.Parameter(torch.zeros(groups, channels))
            self.center_feature_scale_proj_bias = nn.Parameter(torch.zeros(groups))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = x.shape
        guide = self.dw_conv(x.permute(0, 3, 1, 2))
        mask = self.mask(guide).reshape(batch, height, width, self.groups, POINTS).softmax(-1)
        value = self.input_proj(x)
        sampled = deformable_sampling(value, self.offset(guide), mask, self.groups, self.offset_scale)
        if self.center_feature_scale:
            share = functional.linear(guide, self.center_feature_scale_proj_weight, self.center_feature_scale_proj_bias).sigmoid()
            share = share.reshape(batch, height, width, self.groups, 1)
            sampled, value = (x.reshape(batch, height, width, self.groups, -1) for x in (sampled, value))
            sampled = (sampled * (1 - share) + value * share).reshape(batch, height, width, channels)
        return self.output_proj(sampled)


class Mlp(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """DCNv3 and MLP, each with a residual that may be scaled; normalised before (T), after (S to XL, G) or both (H)."""

    def __init__(self, variant: Variant, stage: int):
        super().__init__()
        channels = variant.widths()[stage]
        self.norm1 = nn.Sequential(layer_norm(channels))
        self.dcn = DCNv3(channels, variant.groups[stage], variant)
        self.norm2 = nn.Sequential(layer_norm(channels))
        self.mlp = Mlp(channels)
        self.gamma1 = nn.Parameter(torch.ones(channels)) if variant.layer_scale else 1.0
        self.gamma2 = nn.Parameter(torch.ones(channels)) if variant.layer_scale else 1.0
        self.post_norm = variant.post_norm
        self.res_post_norm = variant.res_post_norm
        if variant.res_post_norm:
            self.res_post_norm1 = nn.Sequential(layer_norm(channels))
            self.res_post_norm2 = nn.Sequential(layer_norm(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.post_norm:
            x = x + self.gamma1 * self.norm1(self.dcn(x))
            return x + self.gamma2 * self.norm2(self.mlp(x))
        if self.res_post_norm:
            x = x + self.gamma1 * self.res_post_norm1(self.dcn(self.norm1(x)))
            return x + self.gamma2 * self.res_post_norm2(self.mlp(self.norm2(x)))
        x = x + self.gamma1 * self.dcn(self.norm1(x))
        return x + self.gamma2 * self.mlp(self.norm2(x))


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=False)
        self.norm = nn.Sequential(to_last(), layer_norm(2 * channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)))


class Level(nn.Module):
    def __init__(self, variant: Variant, stage: int):
        super().__init__()
        channels = variant.widths()[stage]
        self.blocks = nn.ModuleList(Block(variant, stage) for _ in range(variant.depths[stage]))
        self.normed = variant.level2_norms if stage == 2 else ()
        if self.normed:
            self.post_norms = nn.ModuleList(nn.Sequential(layer_norm(channels)) for _ in self.normed)
        if not variant.post_norm or variant.center_feature_scale:
            self.norm = nn.Sequential(layer_norm(channels))
        if stage < 3:
            self.downsample = Downsample(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.normed:
                x = self.post_norms[self.normed.index(index)](x)
        return self.norm(x) if hasattr(self, "norm") else x


class Stem(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels // 2, 3, 2, 1)
        self.norm1 = nn.Sequential(to_last(), layer_norm(channels // 2), to_first())
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, 2, 1)
        self.norm2 = nn.Sequential(to_last(), layer_norm(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm2(self.conv2(functional.gelu(self.norm1(self.conv1(x)))))


class InternImage(nn.Module):
    """Picture to the maps `[N, C, H/s, W/s]` at strides s = 4, 8, 16, 32."""

    def __init__(self, variant: Variant):
        super().__init__()
        self.patch_embed = Stem(variant.channels)
        self.levels = nn.ModuleList(Level(variant, stage) for stage in range(4))

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        x = self.patch_embed(picture)
        maps = []
        for stage, level in enumerate(self.levels):
            if stage:
                x = self.levels[stage - 1].downsample(x)
            x = level(x)
            maps.append(x.permute(0, 3, 1, 2))
        return maps


class ConvModule(nn.Module):
    """Convolution, batch normalisation, ReLU under mmsegmentation's names."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv(x)))


def resize_like(x: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, model.shape[2:], mode="bilinear", align_corners=False)


def pool(x: torch.Tensor, cells: int) -> torch.Tensor:
    """Adaptive average pooling to `cells` x `cells` as two matrices, so that the map's size may be free in ONNX."""
    return averages(x.shape[2], cells, x.dtype) @ (x @ averages(x.shape[3], cells, x.dtype).transpose(0, 1))


def averages(size: int, cells: int, dtype: torch.dtype) -> torch.Tensor:
    """`[cells, size]`: row i averages columns floor(i size / cells) to ceil((i + 1) size / cells)."""
    index = torch.arange(cells)[:, None]
    first = torch.div(index * size, cells, rounding_mode="floor")
    last = torch.div((index + 1) * size + cells - 1, cells, rounding_mode="floor")
    column = torch.arange(size)[None]
    inside = torch.logical_and(column >= first, column < last)
    return (inside.float() / (last - first).float()).to(dtype)


class UPerHead(nn.Module):
    """Pyramid pooling on the deepest map, a feature pyramid above it, all levels fused (arXiv 1807.10221)."""

    def __init__(self, widths: list[int], classes: int, channels: int = 512, cells: tuple[int, ...] = (1, 2, 3, 6)):
        super().__init__()
        self.cells = cells
        self.psp_modules = nn.ModuleList(nn.Sequential(nn.Identity(), ConvModule(widths[-1], channels, 1)) for _ in cells)
        self.bottleneck = ConvModule(widths[-1] + len(cells) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(width, channels, 1) for width in widths[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in widths[:-1])
        self.fpn_bottleneck = ConvModule(len(widths) * channels, channels, 3)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        top = maps[-1]
        context = [resize_like(module(pool(top, cells)), top) for cells, module in zip(self.cells, self.psp_modules, strict=True)]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps[:-1], strict=True)]
        laterals.append(self.bottleneck(torch.cat([top, *context], 1)))
        for level in range(len(laterals) - 1, 0, -1):
            laterals[level - 1] = laterals[level - 1] + resize_like(laterals[level], laterals[level - 1])
        pyramid = [conv(x) for conv, x in zip(self.fpn_convs, laterals[:-1], strict=True)] + laterals[-1:]
        pyramid = pyramid[:1] + [resize_like(x, pyramid[0]) for x in pyramid[1:]]
        fused = self.fpn_bottleneck(torch.cat(pyramid, 1))
        return self.conv_seg(fused), fused


class SegformerHead(nn.Module):
    """Every map brought to one width and to stride 4, concatenated and mixed (arXiv 2105.15203, section 3.2)."""

    def __init__(self, widths: list[int], classes: int, channels: int = 256):
        super().__init__()
        self.convs = nn.ModuleList(ConvModule(width, channels, 1) for width in widths)
        self.fusion_conv = ConvModule(len(widths) * channels, channels, 1)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        levels = [resize_like(conv(x), maps[0]) for conv, x in zip(self.convs, maps, strict=True)]
        fused = self.fusion_conv(torch.cat(levels, 1))
        return self.conv_seg(fused), fused


HEADS = {"uper": UPerHead, "segformer": SegformerHead}
STAGES = ("backbone.0", "backbone.1", "backbone.2", "backbone.3", "fused")
"""Where features can be taken: the backbone's maps at strides 4 to 32, or the head's last map at stride 4."""


class Segmenter(nn.Module):
    """RGB picture `[N, 3, H, W]` f32 to `logits` `[N, classes, H/4, W/4]` and one map per wanted stage, all f32."""

    def __init__(self, variant: Variant, head: str, classes: int, stages: list[str], feature_pool: int = 1):
        super().__init__()
        self.backbone = InternImage(variant)
        self.decode_head = HEADS[head](variant.widths(), classes)
        self.stages = stages
        self.feature_pool = feature_pool

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.backbone(picture.to(self.backbone.patch_embed.conv1.weight.dtype))
        logits, fused = self.decode_head(maps)
        features = [fused if stage == "fused" else maps[int(stage[-1])] for stage in self.stages]
        if self.feature_pool > 1:
            features = [functional.avg_pool2d(x, self.feature_pool) for x in features]
        return tuple(x.float() for x in (logits, *features))
