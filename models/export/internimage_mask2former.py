"""InternImage with the Mask2Former head of the public configurations.

The pixel decoder and the transformer are those of the `transformers` package (arXiv 2112.01527); the names that
mmsegmentation's head gives its weights are brought to theirs. Sizes are read off the checkpoint.
"""

import re

import torch
import transformers
from torch import nn
from transformers.models.mask2former import modeling_mask2former as parts

from internimage_network import InternImage, Variant

LEVELS, POINTS = 3, 4
"""Of the deformable attention: maps that it looks at, and points in each for every head."""

RENAMED = [
    (r"pixel_decoder\.input_convs\.(\d)\.conv", r"pixels.input_projections.\1.0"),
    (r"pixel_decoder\.input_convs\.(\d)\.gn", r"pixels.input_projections.\1.1"),
    (r"pixel_decoder\.encoder\.layers\.(\d+)\.attentions\.0", r"pixels.encoder.layers.\1.self_attn"),
    (r"pixel_decoder\.encoder\.layers\.(\d+)\.ffns\.0\.layers\.0\.0", r"pixels.encoder.layers.\1.fc1"),
    (r"pixel_decoder\.encoder\.layers\.(\d+)\.ffns\.0\.layers\.1", r"pixels.encoder.layers.\1.fc2"),
    (r"pixel_decoder\.encoder\.layers\.(\d+)\.norms\.0", r"pixels.encoder.layers.\1.self_attn_layer_norm"),
    (r"pixel_decoder\.encoder\.layers\.(\d+)\.norms\.1", r"pixels.encoder.layers.\1.final_layer_norm"),
    (r"pixel_decoder\.level_encoding\.weight", "pixels.level_embed"),
    (r"pixel_decoder\.lateral_convs\.0\.conv", "pixels.adapter_1.0"),
    (r"pixel_decoder\.lateral_convs\.0\.gn", "pixels.adapter_1.1"),
    (r"pixel_decoder\.output_convs\.0\.conv", "pixels.layer_1.0"),
    (r"pixel_decoder\.output_convs\.0\.gn", "pixels.layer_1.1"),
    (r"pixel_decoder\.mask_feature", "pixels.mask_projection"),
    (r"query_embed", "queries.queries_embedder"),
    (r"query_feat", "queries.queries_features"),
    (r"level_embed", "queries.level_embed"),
    (r"transformer_decoder\.layers\.(\d+)\.attentions\.0\.attn", r"queries.decoder.layers.\1.cross_attn"),
    (r"transformer_decoder\.layers\.(\d+)\.attentions\.1\.attn\.out_proj", r"queries.decoder.layers.\1.self_attn.out_proj"),
    (r"transformer_decoder\.layers\.(\d+)\.norms\.0", r"queries.decoder.layers.\1.cross_attn_layer_norm"),
    (r"transformer_decoder\.layers\.(\d+)\.norms\.1", r"queries.decoder.layers.\1.self_attn_layer_norm"),
    (r"transformer_decoder\.layers\.(\d+)\.norms\.2", r"queries.decoder.layers.\1.final_layer_norm"),
    (r"transformer_decoder\.layers\.(\d+)\.ffns\.0\.layers\.0\.0", r"queries.decoder.layers.\1.fc1"),
    (r"transformer_decoder\.layers\.(\d+)\.ffns\.0\.layers\.1", r"queries.decoder.layers.\1.fc2"),
    (r"transformer_decoder\.post_norm", "queries.decoder.layernorm"),
    (r"mask_embed\.0", "queries.decoder.mask_predictor.mask_embedder.0.0"),
    (r"mask_embed\.2", "queries.decoder.mask_predictor.mask_embedder.1.0"),
    (r"mask_embed\.4", "queries.decoder.mask_predictor.mask_embedder.2.0"),
    (r"cls_embed", "classes"),
]
"""Names of mmsegmentation's head, without `decode_head.`, and those here."""

SELF_ATTENTION = re.compile(r"transformer_decoder\.layers\.(\d+)\.attentions\.1\.attn\.in_proj_(weight|bias)")
"""Query, key and value in one, which are three layers here."""


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict under the names of `MaskSegmenter`; what is not known keeps its name."""
    found = {}
    for name, value in state.items():
        head = name.removeprefix("decode_head.")
        if head == name:
            found[name] = value
        elif match := SELF_ATTENTION.fullmatch(head):
            layer, kind = match.groups()
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                found[f"queries.decoder.layers.{layer}.self_attn.{part}_proj.{kind}"] = piece.clone()
        else:
            for old, new in RENAMED:
                if match := re.fullmatch(f"{old}(?P<rest>\\..*)?", head):
                    found[match.expand(new) + (match["rest"] or "")] = value
                    break
            else:
                found[name] = value
    return found


def configuration(state: dict[str, torch.Tensor]) -> transformers.Mask2FormerConfig:
    """The sizes of the head of a checkpoint."""
    head = "decode_head."
    queries, width = state[f"{head}query_feat.weight"].shape

    def count(stem: str) -> int:
        found = [int(match.group(1)) for name in state if (match := re.match(re.escape(head + stem) + r"\.(\d+)\.", name))]
        return max(found, default=-1) + 1

    offsets = state[f"{head}pixel_decoder.encoder.layers.0.attentions.0.sampling_offsets.weight"]
    return transformers.Mask2FormerConfig(
        feature_size=width,
        mask_feature_size=state[f"{head}pixel_decoder.mask_feature.weight"].shape[0],
        hidden_dim=width,
        encoder_feedforward_dim=state[f"{head}pixel_decoder.encoder.layers.0.ffns.0.layers.0.0.weight"].shape[0],
        dim_feedforward=state[f"{head}transformer_decoder.layers.0.ffns.0.layers.0.0.weight"].shape[0],
        encoder_layers=count("pixel_decoder.encoder.layers"),
        decoder_layers=count("transformer_decoder.layers") + 1,
        num_attention_heads=offsets.shape[0] // (2 * LEVELS * POINTS),
        num_queries=queries,
        num_labels=state[f"{head}cls_embed.weight"].shape[0] - 1,
        dropout=0.0,
    )


class MaskSegmenter(nn.Module):
    """RGB picture `[N, 3, H, W]` to `queries` `[N, Q, classes + 1]`, "no object" last, and `masks` `[N, Q, H/4, W/4]`."""

    def __init__(self, variant: Variant, config: transformers.Mask2FormerConfig):
        super().__init__()
        self.backbone = InternImage(variant)
        self.pixels = parts.Mask2FormerPixelDecoder(config, feature_channels=variant.widths())
        self.queries = parts.Mask2FormerTransformerModule(in_features=config.feature_size, config=config)
        self.classes = nn.Linear(config.hidden_dim, config.num_labels + 1)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = self.pixels(self.backbone(picture))
        found = self.queries(multi_scale_features=pixels.multi_scale_features, mask_features=pixels.mask_features)
        return self.classes(found.intermediate_hidden_states[-1].transpose(0, 1)), found.masks_queries_logits[-1]


def build(variant: Variant, state: dict[str, torch.Tensor]) -> tuple[MaskSegmenter, dict[str, torch.Tensor]]:
    """The network of a checkpoint, without its weights, and the weights under its names."""
    return MaskSegmenter(variant, configuration(state)).eval(), renamed(state)
