#!/usr/bin/env python3
"""A segmentation network of the `transformers` package as ONNX.

    python models/export/transformers_seg.py --model facebook/mask2former-swin-tiny-cityscapes-semantic -o m2f.onnx
    python models/export/transformers_seg.py --tiny eomt -o eomt.onnx        random weights, to try the way there

`--model` takes a folder or a name that `from_pretrained` knows. Query-mask networks (Mask2Former, MaskFormer, OneFormer,
EoMT) give `queries` and `masks`, which oodstream folds into one value per class and pixel; all others give `logits`.
"""

import argparse
import functools
import json
import pathlib
import warnings

import onnx
import torch
import transformers
from torch import nn
from torch.nn import functional

from common import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    class_table,
    difference,
    export,
    prepared,
    test_picture,
    write_manifest,
    write_pair,
)
from internimage_network import pool

LIMIT = 1e-3
"""Largest difference between PyTorch and ONNX Runtime, relative to the largest value."""

TINY_SIZE = (128, 192)
"""Height and width of the networks with random weights."""


def tiny_swin() -> transformers.PretrainedConfig:
    return transformers.SwinConfig(
        image_size=TINY_SIZE, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 4, 8], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def tiny(name: str) -> nn.Module:
    """A network of that architecture with 19 classes, random weights and a few layers."""
    queries = {"num_queries": 20, "num_labels": 19}
    pixels = {"hidden_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32, "encoder_layers": 1, "decoder_layers": 3, "num_attention_heads": 2}
    tokens = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": TINY_SIZE, "patch_size": 16}
    stages = {"depths": [1] * 4, "hidden_sizes": [16, 24, 32, 40]}
    match name:
        case "mask2former":
            config = transformers.Mask2FormerConfig(backbone_config=tiny_swin(), feature_size=32, mask_feature_size=32, **pixels, **queries)
            return transformers.Mask2FormerForUniversalSegmentation(config)
        case "maskformer":
            decoder = transformers.DetrConfig(
                d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
                encoder_attention_heads=2, decoder_attention_heads=2, num_queries=20,
            )
            config = transformers.MaskFormerConfig(
                backbone_config=tiny_swin(), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, num_labels=19
            )
            return transformers.MaskFormerForInstanceSegmentation(config)
        case "oneformer":
            config = transformers.OneFormerConfig(
                backbone_config=tiny_swin(), conv_dim=32, mask_dim=32, is_training=False, text_encoder_width=32,
                text_encoder_num_layers=1, query_dec_layers=1, **pixels, **queries,
            )
            return transformers.OneFormerForUniversalSegmentation(config)
        case "eomt":
            config = transformers.EomtConfig(num_blocks=2, num_upscale_blocks=2, num_register_tokens=4, **(tokens | {"image_size": 128}), **queries)
            return transformers.EomtForUniversalSegmentation(config)
        case "segformer":
            config = transformers.SegformerConfig(num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=32, num_labels=19, **stages)
            return transformers.SegformerForSemanticSegmentation(config)
        case "upernet":
            backbone = transformers.ConvNextConfig(out_features=["stage1", "stage2", "stage3", "stage4"], **stages)
            config = transformers.UperNetConfig(backbone_config=backbone, hidden_size=32, num_labels=19, use_auxiliary_head=False)
            return transformers.UperNetForSemanticSegmentation(config)
        case "beit":
            config = transformers.BeitConfig(intermediate_size=48, out_indices=[1, 2, 3, 4], num_labels=19, use_auxiliary_head=False, **tokens)
            return transformers.BeitForSemanticSegmentation(config)
        case "dpt":
            config = transformers.DPTConfig(
                intermediate_size=48, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 16, 24, 24], fusion_hidden_size=24,
                num_labels=19, use_auxiliary_head=False, **(tokens | {"image_size": 128}),
            )
            return transformers.DPTForSemanticSegmentation(config)
    raise SystemExit(f"--tiny {name}: known are {', '.join(TINY)}")


TINY = ["mask2former", "maskformer", "oneformer", "eomt", "segformer", "upernet", "beit", "dpt"]


def replace_pools(network: nn.Module) -> None:
    """Writes adaptive average pooling as matrices: the exporter has it only for sizes that divide evenly."""
    for module in network.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size if isinstance(module.output_size, int) else module.output_size[0]
            module.forward = functools.partial(pool, cells=size)


class Outputs(nn.Module):
    """The network with its outputs in a fixed order: logits, or the classes of the queries and their masks."""

    def __init__(self, network: nn.Module, task: torch.Tensor | None) -> None:
        super().__init__()
        self.network = network
        self.task = task

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        more = {} if self.task is None else {"task_inputs": self.task}
        found = self.network(pixel_values=x, **more)
        if "class_queries_logits" in found:
            return found.class_queries_logits, found.masks_queries_logits
        return (found.logits,)


def sample_in_f32(path: pathlib.Path) -> None:
    """Casts what GridSample takes to f32: tracing makes sampling points f64, for which ONNX Runtime has no such operator."""
    model = onnx.load(str(path))
    nodes = []
    for node in model.graph.node:
        if node.op_type == "GridSample":
            for index, name in enumerate(node.input):
                cast = f"{node.output[0]}.f32.{index}"
                nodes.append(onnx.helper.make_node("Cast", [name], [cast], name=cast, to=onnx.TensorProto.FLOAT))
                node.input[index] = cast
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    onnx.save(model, str(path))


def semantic(queries: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """One value per class and pixel, as the authors' semantic inference has it: "no object" is the last class."""
    return torch.einsum("nqk,nqhw->nkhw", functional.softmax(queries, -1)[..., :-1], masks.sigmoid())


def task_tokens(source: str | None) -> torch.Tensor:
    """The words that tell OneFormer to segment by class."""
    if source is None:
        return torch.ones(1, 77, dtype=torch.long)
    processor = transformers.AutoProcessor.from_pretrained(source)
    return processor(task_inputs=["semantic"], return_tensors="pt")["task_inputs"]


def load(source: str) -> nn.Module:
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        for auto in (transformers.AutoModelForUniversalSegmentation, transformers.AutoModelForSemanticSegmentation):
            if type(config) in auto._model_mapping:
                return auto.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"--model {source}: {str(error).strip().splitlines()[0]}") from None
    raise SystemExit(f"--model {source}: a {type(config).__name__}, which has no segmentation head in transformers")


def colours(source: str | None) -> tuple[list[float], list[float]]:
    """Mean and deviation of the network's own image processor."""
    if source is None:
        return IMAGENET_MEAN, IMAGENET_STD
    processor = transformers.AutoImageProcessor.from_pretrained(source)
    if not getattr(processor, "do_normalize", True):
        return [0.0] * 3, [1.0] * 3
    return list(processor.image_mean), list(processor.image_std)


def classes_of(network: nn.Module) -> dict:
    """Names by the configuration; colours where they are those of a well-known data set."""
    labels = network.config.id2label
    names = [str(labels[index]) for index in sorted(labels)]
    if all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        names = []
    for table in map(class_table, ("cityscapes", "ade20k", "mapillary", "voc")):
        if len(table["names"]) == len(labels) and (not names or names == table["names"]):
            return table
    return {"names": names or [f"class {index}" for index in range(len(labels))]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="FOLDER_OR_NAME", help="a trained network")
    source.add_argument("--tiny", choices=TINY, help="random weights and a few layers")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="NAME.onnx")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="default: 512 1024, or what the network is fixed to")
    arguments = parser.parse_args()

    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    network = (tiny(arguments.tiny) if arguments.tiny else load(arguments.model)).eval()
    replace_pools(network)
    kind = type(network).__name__
    fixed = getattr(network.config, "image_size", None) if kind.startswith(("Eomt", "DPT", "Beit")) else None
    fixed = (fixed, fixed) if isinstance(fixed, int) else fixed
    size = tuple(arguments.size or fixed or (TINY_SIZE if arguments.tiny else (512, 1024)))
    mean, std = colours(arguments.model)
    model = Outputs(network, task_tokens(arguments.model) if kind.startswith("OneFormer") else None).eval()
    picture = test_picture(*size)
    inputs = [prepared(picture, mean, std), torch.randn(1, 3, *size)]
    with torch.no_grad():
        found = model(inputs[0])
    is_query = len(found) == 2
    outputs = ["queries", "masks"] if is_query else ["logits"]
    export(model, inputs[0], arguments.output, outputs)
    sample_in_f32(arguments.output)
    print(f"wrote {arguments.output}: {kind} at {size[0]}x{size[1]}")
    worst = difference(model, arguments.output, inputs, outputs)
    if worst > LIMIT:
        raise SystemExit(f"ONNX Runtime differs from PyTorch by {worst:.2e}, more than {LIMIT:g}")
    write_manifest(
        arguments.output,
        name=f"{kind}, {arguments.model or 'random weights'}",
        licence="see the source",
        source=arguments.model or f"transformers {transformers.__version__}, random weights",
        size=size,
        features=[],
        classes=classes_of(network),
        outputs={name: name for name in outputs},
        mean=mean,
        std=std,
    )
    write_pair(arguments.output, picture, semantic(*found) if is_query else found[0])
    print(json.dumps({"family": kind, "exporter": f"transformers {transformers.__version__}, torch {torch.__version__}"}))


if __name__ == "__main__":
    main()
