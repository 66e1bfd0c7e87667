#!/usr/bin/env python3
"""The table of graph families in docs/models.md: exports of other people's networks, taken as they are.

    pip install -r models/export/requirements.txt -r models/export/families.txt
    cargo build --release && python models/export/families.py --program target/release/oodstream --folder families

Each network has random weights and is exported by its own package's way. `oodstream model inspect` says what it makes of
the file, `oodstream model verify` holds the logits that `run` would use, or the features of a network without classes,
against PyTorch's for the same picture. Prints the table, and ends with 1 where a row that claims support does not agree.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy
import onnx
import onnxruntime
import torch
from PIL import Image
from torch import nn

from common import IMAGENET_MEAN, IMAGENET_STD, prepared, test_picture

HEIGHT, WIDTH = 128, 192
CLASSES = 19


@dataclass
class Family:
    """One row: the file is written by `write`, which gives the reference `[1, C, h, w]`, or `None` for what is to be refused."""

    name: str
    exporter: str
    write: Callable[[pathlib.Path], numpy.ndarray | None]
    manifest: str = ""
    least: float = 0.99995
    """Correlation of a row that is as it should be. What 8 bits round depends on which operators are fused."""


class First(nn.Module):
    """A network whose outputs are `pick`ed from what it gives, followed by `end`."""

    def __init__(self, network: nn.Module, pick: Callable, end: Callable = lambda x: x) -> None:
        super().__init__()
        self.network, self.pick, self.end = network, pick, end

    def raw(self, x: torch.Tensor) -> torch.Tensor:
        return self.pick(self.network(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.raw(x))


def seeded(network: nn.Module) -> nn.Module:
    """With weights and statistics that let every class differ from place to place."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def traced(model: First, path: pathlib.Path, x: torch.Tensor, opset: int = 17, **more: object) -> numpy.ndarray:
    """The tracing exporter of PyTorch; the raw logits are the reference whatever the graph ends in."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (x,), str(path), opset_version=opset, dynamo=False, **more)
        return model.raw(x).numpy()


def dynamo(model: First, path: pathlib.Path, x: torch.Tensor) -> numpy.ndarray:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (x,), str(path), dynamo=True, external_data=False, verbose=False)
        return model.raw(x).numpy()


def families(picture: numpy.ndarray) -> Iterator[Family]:
    """All rows."""
    import segmentation_models_pytorch as smp
    import torchvision
    import transformers

    import transformers_seg
    import vit

    x = prepared(picture, IMAGENET_MEAN, IMAGENET_STD)
    with_torch = f"torch {torch.__version__.split('+')[0]}"
    vision = f"torchvision {torchvision.__version__.split('+')[0]}, {with_torch}"
    units = f"segmentation_models_pytorch {smp.__version__}, {with_torch}"

    def torchvision_net(make: Callable, end: Callable = lambda x: x) -> First:
        network = make(weights=None, weights_backbone=None, num_classes=CLASSES)
        return First(seeded(network), lambda found: found["out"], end)

    def smp_net(kind: str, end: Callable = lambda x: x) -> First:
        network = smp.create_model(kind, encoder_name="resnet18", encoder_weights=None, classes=CLASSES)
        transformers_seg.replace_pools(network)
        return First(seeded(network), lambda found: found, end)

    segmentation = torchvision.models.segmentation
    for label, make in [
        ("DeepLabV3, MobileNetV3", segmentation.deeplabv3_mobilenet_v3_large),
        ("LR-ASPP, MobileNetV3", segmentation.lraspp_mobilenet_v3_large),
        ("FCN, ResNet-50", segmentation.fcn_resnet50),
    ]:
        yield Family(label, vision, lambda path, make=make: traced(torchvision_net(make), path, x))
    yield Family(
        "LR-ASPP, `torch.onnx.export(dynamo=True)`",
        vision,
        lambda path: dynamo(torchvision_net(segmentation.lraspp_mobilenet_v3_large), path, x),
    )
    for kind in ["unet", "fpn", "deeplabv3plus", "segformer", "linknet", "manet", "upernet"]:
        yield Family(f"{kind}, ResNet-18", units, lambda path, kind=kind: traced(smp_net(kind), path, x))
    yield Family(
        "FPN with softmax, opset 11 (mmsegmentation's default)",
        units,
        lambda path: traced(smp_net("fpn", lambda y: y.softmax(1)), path, x, opset=11),
    )
    yield Family(
        "FPN with softmax and argmax, opset 11",
        units,
        lambda path: traced(smp_net("fpn", lambda y: y.softmax(1).argmax(1)), path, x, opset=11),
    )
    yield Family(
        "FPN with argmax as u8, opset 17", units,
        lambda path: traced(smp_net("fpn", lambda y: y.argmax(1, keepdim=True).to(torch.uint8)), path, x),
    )
    yield Family(
        "FPN, NHWC out", units, lambda path: traced(smp_net("fpn", lambda y: y.permute(0, 2, 3, 1)), path, x)
    )
    free = {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": {"input": {0: "n", 2: "h", 3: "w"}, "logits": {0: "n", 2: "a", 3: "b"}}}
    yield Family(
        "FPN, free size", units, lambda path: traced(smp_net("fpn"), path, x, **free),
        manifest=f"[input]\nheight = {HEIGHT}\nwidth = {WIDTH}\n",
    )

    def baked(path: pathlib.Path) -> numpy.ndarray:
        """Bytes `[1, h, w, 3]` in, the normalisation in the graph."""

        class Baked(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = smp_net("fpn")

            def raw(self, image: torch.Tensor) -> torch.Tensor:
                mean, std = (torch.tensor(v) * 255 for v in (IMAGENET_MEAN, IMAGENET_STD))
                return self.inner.raw(((image.float() - mean) / std).permute(0, 3, 1, 2))

            forward = raw

        return traced(Baked(), path, torch.from_numpy(picture[None].copy()))

    yield Family("FPN with its preprocessing, u8 NHWC in, NCHW out", units, baked)

    def caffe(path: pathlib.Path) -> numpy.ndarray:
        """BGR, 0 to 255, without means, as OpenVINO's and Caffe's networks."""
        values = torch.from_numpy(picture[None, ..., ::-1].transpose(0, 3, 1, 2).astype(numpy.float32).copy())
        return traced(smp_net("fpn"), path, values)

    yield Family("FPN for BGR 0..255", units, caffe, manifest='[input]\ncolour = "bgr"\nrange = "0..255"\n')

    def quantised(path: pathlib.Path, form: str) -> numpy.ndarray:
        from onnxruntime import quantization

        plain = path.with_suffix(".f32.onnx")
        traced(smp_net("fpn"), plain, x, input_names=["input"])
        prepared_path = path.with_suffix(".prepared.onnx")
        quantization.shape_inference.quant_pre_process(str(plain), str(prepared_path), skip_symbolic_shape=True)

        class Reader(quantization.CalibrationDataReader):
            def __init__(self) -> None:
                self.left = [{"input": x.numpy()}]

            def get_next(self) -> dict | None:
                return self.left.pop() if self.left else None

        if form == "dynamic":
            quantization.quantize_dynamic(str(prepared_path), str(path))
        else:
            quant_format = quantization.QuantFormat.QDQ if form == "QDQ" else quantization.QuantFormat.QOperator
            quantization.quantize_static(str(prepared_path), str(path), Reader(), quant_format=quant_format, per_channel=True)
        # Quantisation is lossy: the reference is the quantised graph itself, run by Python.
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, {"input": x.numpy()})[0]

    for form in ["QDQ", "QOperator", "dynamic"]:
        yield Family(
            f"FPN in int8, {form}", f"onnxruntime {onnxruntime.__version__} quantization", lambda path, form=form: quantised(path, form), least=0.999
        )

    def transformer(path: pathlib.Path, script: str, name: str, *more: str) -> numpy.ndarray:
        """As one of the scripts here exports it, without its manifest; and the reference that it writes."""
        command = [sys.executable, str(pathlib.Path(__file__).with_name(script)), "--tiny", name, "-o", str(path), *more]
        subprocess.run(command, check=True, capture_output=True)
        path.with_suffix(".toml").unlink()
        Image.open(path.with_suffix(".check.png")).save(path.with_suffix(".png"))
        return numpy.load(path.with_suffix(".check.npy"))

    for name in transformers_seg.TINY:
        yield Family(
            f"{name}", f"transformers {transformers.__version__}, {with_torch}", lambda path, name=name: transformer(path, "transformers_seg.py", name)
        )
    for name in vit.TINY:
        yield Family(
            f"{name}, no head", f"transformers {transformers.__version__}, {with_torch}", lambda path, name=name: transformer(path, "vit.py", name)
        )
    for name in ("clip", "siglip"):
        yield Family(
            f"{name} with texts as classes",
            f"transformers {transformers.__version__}, {with_torch}",
            lambda path, name=name: transformer(path, "vit.py", name, "--text", "road,car,person,sky"),
        )

    def linear_head(path: pathlib.Path) -> numpy.ndarray:
        """DINOv2 with a linear layer over its tokens, the class token still in front."""
        config = transformers.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=128, patch_size=16)
        network, head = seeded(transformers.Dinov2Model(config)), nn.Linear(32, CLASSES)

        class Tokens(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network, self.head = network, head

            def forward(self, values: torch.Tensor) -> torch.Tensor:
                return self.head(self.network(pixel_values=values).last_hidden_state)

            def raw(self, values: torch.Tensor) -> torch.Tensor:
                rows, columns = HEIGHT // 16, WIDTH // 16
                return self(values)[:, 1:].transpose(1, 2).reshape(1, CLASSES, rows, columns)

        return traced(Tokens(), path, x)

    yield Family("DINOv2 with a linear head over tokens", f"transformers {transformers.__version__}, {with_torch}", linear_head)

    def embedding(path: pathlib.Path) -> numpy.ndarray:
        network = seeded(smp.create_model("fpn", encoder_name="resnet18", encoder_weights=None, classes=64))
        return traced(First(network, lambda found: found), path, x, output_names=["image_embeddings"])

    yield Family("an image encoder (`image_embeddings`)", units, embedding)

    def instances(path: pathlib.Path) -> None:
        class Instances(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = seeded(smp.create_model("fpn", encoder_name="resnet18", encoder_weights=None, classes=32))
                self.cells = sum((HEIGHT // s) * (WIDTH // s) for s in (8, 16, 32))

            def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                maps = self.body(values)
                return maps.mean() + torch.zeros(1, 116, self.cells), maps

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(Instances(), (x,), str(path), opset_version=17, dynamo=False, output_names=["output0", "output1"])

    yield Family("outputs of an ultralytics segmentation network", with_torch, instances)


def call(program: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


def row(program: str, folder: pathlib.Path, number: int, family: Family, picture: numpy.ndarray) -> tuple[str, bool]:
    """The row of the table, and whether it is as it should be."""
    path = folder / f"family_{number:02}.onnx"
    Image.fromarray(picture).save(path.with_suffix(".png"))
    reference = family.write(path)
    path.with_suffix(".toml").unlink(missing_ok=True)
    if family.manifest:
        path.with_suffix(".toml").write_text(family.manifest)
    said = family.manifest.replace("[input]\n", "").strip().replace("\n", ", ")
    needed = f"`{said}`" if said else "nothing"
    if reference is None:
        found = call(program, "model", "inspect", path)
        reason = found.stderr.splitlines()[0].split(".onnx: ", 1)[-1] if found.stderr else ""
        return f"| {family.name} | {family.exporter} | refused: {reason} | | |", found.returncode == 1
    array = path.with_suffix(".npy")
    numpy.save(array, reference)
    seen = call(program, "model", "inspect", path, "--json", "-", "--provider", "cpu")
    if seen.returncode != 0:
        return f"| {family.name} | {family.exporter} | {seen.stderr.strip().splitlines()[0]} | | failed |", False
    seen = json.loads(seen.stdout)
    shape = lambda entry: f"{entry['channels']} x {entry['height']} x {entry['width']}"  # noqa: E731
    logits = f"logits {shape(seen['logits'])}" if seen["logits"] else "features alone"
    maps = f"{logits}, features {', '.join(map(shape, seen['features'])) or 'none'}"
    found = call(program, "model", "verify", path, "--image", path.with_suffix(".png"), "--logits", array, "--json", "-", "--provider", "cpu")
    if not found.stdout:
        return f"| {family.name} | {family.exporter} | {maps} | {needed} | {found.stderr.strip().splitlines()[0]} |", False
    found = json.loads(found.stdout)
    return f"| {family.name} | {family.exporter} | {maps} | {needed} | {found['correlation']:.4f} |", found["correlation"] >= family.least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="oodstream", help="default: oodstream")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where the graphs are written")
    parser.add_argument("--only", default="", metavar="WORD", help="rows whose name has this word")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    picture = test_picture(HEIGHT, WIDTH)
    print("| family | exporter | `inspect` says | the manifest must say | correlation |\n|---|---|---|---|---|", flush=True)
    wrong = []
    for number, family in enumerate(families(picture)):
        if arguments.only not in family.name:
            continue
        try:
            line, fine = row(arguments.program, arguments.folder, number, family, picture)
        except Exception as error:  # one exporter that fails is a row, not the end
            line, fine = f"| {family.name} | {family.exporter} | not exported: {str(error).strip().splitlines()[0][:120]} | | |", False
        print(line, flush=True)
        if not fine:
            wrong.append(family.name)
    if wrong:
        raise SystemExit(f"not as it should be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
