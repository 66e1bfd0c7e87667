#!/usr/bin/env python3
"""An image encoder of the `transformers` package as ONNX: DINOv2, DINOv3, SigLIP, CLIP.

    python models/export/vit.py --model facebook/dinov2-small -o dinov2.onnx                      features alone
    python models/export/vit.py --model facebook/dinov2-small --linear head.pt --classes cityscapes -o dinov2.onnx
    python models/export/vit.py --model openai/clip-vit-base-patch16 --text "road,car,person,sky" -o clip.onnx
    python models/export/vit.py --tiny dinov3 -o dinov3.onnx        random weights, to try the way there

`--model` takes a folder or a name that `from_pretrained` knows. Without a head the file has one output,
`last_hidden_state`, and oodstream scores it with `bank` after `oodstream calibrate`. A linear head or the embeddings of
texts give `logits`, one value per class and token. oodstream drops the class and register tokens and makes a grid of the
rest.
"""

import argparse
import json
import pathlib
import warnings

import numpy
import torch
import transformers
from torch import nn
from torch.nn import functional

from common import IMAGENET_MEAN, IMAGENET_STD, class_table, difference, export, load_checkpoint, prepared, test_picture, write_manifest, write_pair
from transformers_seg import LIMIT, colours

TINY = ["dinov2", "dinov2_registers", "dinov3", "siglip", "clip"]
TINY_SIZE = (64, 96)
"""Height and width of the networks with random weights."""


def tiny(name: str) -> nn.Module:
    """An encoder of that architecture with random weights and a few layers; SigLIP and CLIP with their text towers."""
    tower = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    picture = tower | {"image_size": 64, "patch_size": 8}
    words = tower | {"vocab_size": 64, "max_position_embeddings": 16}
    match name:
        case "dinov2":
            return transformers.Dinov2Model(transformers.Dinov2Config(**picture))
        case "dinov2_registers":
            return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(num_register_tokens=4, **picture))
        case "dinov3":
            return transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(num_register_tokens=4, **picture))
        case "siglip":
            config = transformers.SiglipConfig(text_config=words | {"projection_size": 32}, vision_config=picture)
            return transformers.SiglipModel(config)
        case "clip":
            special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
            return transformers.CLIPModel(transformers.CLIPConfig(text_config=words | special, vision_config=picture, projection_dim=24))
    raise SystemExit(f"--tiny {name}: known are {', '.join(TINY)}")


def load(source: str) -> nn.Module:
    try:
        return transformers.AutoModel.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"--model {source}: {str(error).strip().splitlines()[0]}") from None


def vision_tower(network: nn.Module) -> nn.Module:
    """The part that sees pictures."""
    tower = getattr(network, "vision_model", network)
    if not hasattr(tower.config, "patch_size") or not hasattr(tower.config, "hidden_size"):
        raise SystemExit(f"{type(network).__name__} is no image encoder over patches")
    return tower


def tokens_in_front(tower: nn.Module) -> int:
    """Class and register tokens before the patches."""
    if "Siglip" in type(tower).__name__:
        return 0
    return 1 + (getattr(tower.config, "num_register_tokens", 0) or 0)


class Tokens(nn.Module):
    """`last_hidden_state` of an encoder for a picture of any size."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        # DINO does it by itself.
        self.more = {"interpolate_pos_encoding": True} if type(tower).__name__.startswith(("CLIP", "Siglip")) else {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tower(pixel_values=x, **self.more).last_hidden_state


class TokensInTextSpace(nn.Module):
    """Patches in the space of the text embeddings.

    The last attention of the tower gathers what the picture as a whole is; here each token looks at itself alone, so that
    it keeps what its own patch shows (as MaskCLIP does, arXiv 2112.01071).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.tower = network, vision_tower(network)
        self.is_siglip = "Siglip" in type(network).__name__

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.tower(pixel_values=x, interpolate_pos_encoding=True, output_hidden_states=True)
        if self.is_siglip:
            head = self.tower.head
            size = self.tower.config.hidden_size
            values = found.last_hidden_state @ head.attention.in_proj_weight[2 * size :].T + head.attention.in_proj_bias[2 * size :]
            values = head.attention.out_proj(values)
            return values + head.mlp(head.layernorm(values))
        last, before = self.tower.encoder.layers[-1], found.hidden_states[-2]
        values = before + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(before)))
        values = values + last.mlp(last.layer_norm2(values))
        return self.network.visual_projection(self.tower.post_layernorm(values))


class Linear(nn.Module):
    """One value per class and token: a product with weights, after the features."""

    def __init__(self, features: nn.Module, weight: torch.Tensor, bias: torch.Tensor, unit_length: bool) -> None:
        super().__init__()
        self.features, self.unit_length = features, unit_length
        self.weight, self.bias = nn.Parameter(weight.T.contiguous()), nn.Parameter(bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.features(x)
        if self.unit_length:
            found = functional.normalize(found, dim=-1)
        return (found @ self.weight + self.bias,)


class Alone(nn.Module):
    """The features as they are."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.features(x),)


def linear_head(path: pathlib.Path, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights `[classes, width]` and bias of a head: `weight` and `bias` whatever stands before them, as of a linear layer
    or a 1x1 convolution; a batch normalisation before it (`bn.*`, as DINOv2's own heads have) is folded in."""
    if path.suffix == ".npz":
        found = {name: torch.from_numpy(values) for name, values in numpy.load(path).items()}
    else:
        content = load_checkpoint(path)
        found = content.get("state_dict", content)
    normal = {name.rsplit(".", 1)[-1]: value.float() for name, value in found.items() if "bn." in name}
    plain = {name.rsplit(".", 1)[-1]: value.float() for name, value in found.items() if "bn." not in name}
    if "weight" not in plain:
        raise SystemExit(f"--linear {path}: it has no `weight`, only {', '.join(sorted(found)) or 'nothing'}")
    weight = plain["weight"].flatten(1)
    bias = plain.get("bias", torch.zeros(len(weight)))
    if weight.shape[1] != width:
        raise SystemExit(f"--linear {path}: its weights take {weight.shape[1]} features, the encoder gives {width}")
    if normal:
        scale = normal["weight"] / (normal["running_var"] + 1e-5).sqrt()
        shift = normal["bias"] - normal["running_mean"] * scale
        weight, bias = weight * scale, bias + weight @ shift
    return weight, bias


def text_head(network: nn.Module, source: str | None, names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias that give the similarity of a unit-length feature to each text, as the network was trained with."""
    if not hasattr(network, "get_text_features"):
        raise SystemExit(f"--text: {type(network).__name__} has no text tower; CLIP and SigLIP have one")
    if source is None:
        ids = (torch.arange(8) * 7 + torch.arange(len(names))[:, None] * 5) % 61 + 3
        ids[:, -1] = 1
        words = {"input_ids": ids}
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        words = tokenizer([f"a photo of a {name}" for name in names], padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        found = network.get_text_features(**words)
    found = functional.normalize(getattr(found, "pooler_output", found), dim=-1)
    bias = getattr(network, "logit_bias", None)
    bias = torch.zeros(1) if bias is None else bias.detach()
    return found * network.logit_scale.exp().detach(), bias.expand(len(names)).clone()


def fix_positions(tower: nn.Module, size: tuple[int, int]) -> None:
    """Writes the position embeddings for `size` down as a constant: some are resampled with a filter that ONNX has not."""
    embeddings = getattr(tower, "embeddings", None)
    if not hasattr(embeddings, "interpolate_pos_encoding"):
        return
    found = []
    resample = embeddings.interpolate_pos_encoding

    def keep(*inputs: object) -> torch.Tensor:
        found.append(resample(*inputs))
        return found[-1]

    embeddings.interpolate_pos_encoding = keep
    with torch.no_grad():
        Tokens(tower)(torch.zeros(1, 3, *size))
    constant = found[-1].detach().clone()
    embeddings.interpolate_pos_encoding = lambda *_: constant


def to_multiple(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """The nearest size that patches cover exactly."""
    height, width = (max(patch, round(side / patch) * patch) for side in size)
    if (height, width) != size:
        print(f"{size[0]}x{size[1]} is no multiple of the patch of {patch}: {height}x{width}, to which oodstream brings every frame")
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="FOLDER_OR_NAME", help="a trained encoder")
    source.add_argument("--tiny", choices=TINY, help="random weights and a few layers")
    head = parser.add_mutually_exclusive_group()
    head.add_argument("--linear", type=pathlib.Path, metavar="HEAD.pt|npz", help="a linear head: `weight` [classes, D] and `bias`")
    head.add_argument("--text", metavar="NAME,...", help="classes by their names, for CLIP and SigLIP")
    parser.add_argument("--classes", metavar="SET|NAME,...", help="names of the linear head's classes, or a table of models/classes")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="NAME.onnx")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="rounded to multiples of the patch; default: what the encoder was trained at")
    parser.add_argument("--resize", choices=["stretch", "letterbox", "tile"], default="stretch", help="the rule that brings a frame to that size")
    arguments = parser.parse_args()

    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    network = (tiny(arguments.tiny) if arguments.tiny else load(arguments.model)).float().eval()
    network.requires_grad_(False)
    tower = vision_tower(network)
    patch = tower.config.patch_size
    trained = tower.config.image_size
    trained = (trained, trained) if isinstance(trained, int) else tuple(trained)
    size = to_multiple(tuple(arguments.size or (TINY_SIZE if arguments.tiny else trained)), patch)
    fix_positions(tower, size)
    mean, std = colours(arguments.model) if arguments.model else (IMAGENET_MEAN, IMAGENET_STD)

    classes = None
    if arguments.text:
        names = [name.strip() for name in arguments.text.split(",") if name.strip()]
        model = Linear(TokensInTextSpace(network), *text_head(network, arguments.model, names), unit_length=True)
        classes = {"names": names}
    elif arguments.linear:
        weight, bias = linear_head(arguments.linear, tower.config.hidden_size)
        model = Linear(Tokens(tower), weight, bias, unit_length=False)
        known = {path.stem for path in (pathlib.Path(__file__).resolve().parent.parent / "classes").glob("*.toml")}
        given = arguments.classes or ""
        classes = class_table(given) if given in known else {"names": [name.strip() for name in given.split(",") if name.strip()]}
        classes = classes if classes["names"] else {"names": [f"class {index}" for index in range(len(weight))]}
        if len(classes["names"]) != len(weight):
            raise SystemExit(f"--classes: {len(classes['names'])} names for a head of {len(weight)} classes")
    else:
        model = Alone(Tokens(tower))
    model = model.eval()
    output = "last_hidden_state" if classes is None else "logits"
    picture = test_picture(*size)
    inputs = [prepared(picture, mean, std), torch.randn(1, 3, *size)]
    with torch.no_grad():
        (found,) = model(inputs[0])
    export(model, inputs[0], arguments.output, [output])
    front, rows, columns = tokens_in_front(tower), size[0] // patch, size[1] // patch
    if found.shape[1] != front + rows * columns:
        raise SystemExit(f"{found.shape[1]} tokens are not {front} and {rows} x {columns} patches")
    print(f"wrote {arguments.output}: {type(tower).__name__} at {size[0]}x{size[1]}, {front} + {rows} x {columns} tokens of {found.shape[2]}")
    worst = difference(model, arguments.output, inputs, [output])
    if worst > LIMIT:
        raise SystemExit(f"ONNX Runtime differs from PyTorch by {worst:.2e}, more than {LIMIT:g}")
    write_manifest(
        arguments.output,
        name=f"{type(tower).__name__}, {arguments.model or 'random weights'}",
        licence="see the source",
        source=arguments.model or f"transformers {transformers.__version__}, random weights",
        size=size,
        features=[output] if classes is None else [],
        classes=classes,
        outputs={} if classes is None else {"logits": output},
        mean=mean,
        std=std,
        resize=arguments.resize,
    )
    write_pair(arguments.output, picture, found[:, front:].transpose(1, 2).reshape(1, -1, rows, columns))
    print(json.dumps({"family": type(tower).__name__, "exporter": f"transformers {transformers.__version__}, torch {torch.__version__}"}))


if __name__ == "__main__":
    main()
