"""What every exporter here does at the end: write the ONNX file, hold it against PyTorch, describe it in a manifest."""

import hashlib
import json
import pathlib
import tomllib
import warnings

import numpy
import onnx
import onnxruntime
import torch
from PIL import Image

CLASS_TABLES = pathlib.Path(__file__).resolve().parent.parent / "classes"
OPSET = 17
"""Of the default ONNX domain. 16 brought GridSample, 17 LayerNormalization; every supported ONNX Runtime has them."""

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]
"""Of R, G, B in units of 0..1."""

PROTOBUF_LIMIT = 2**31 - 2**20
"""A protocol buffer file ends at 2 GiB; weights beyond it go into a second file. 1 MiB is left for the graph."""


def class_table(name: str) -> dict:
    """`names` and `palette` of one of the data sets in `models/classes`."""
    return tomllib.loads((CLASS_TABLES / f"{name}.toml").read_text())


def export(
    network: torch.nn.Module,
    example: torch.Tensor,
    path: pathlib.Path,
    outputs: list[str],
    dynamic: bool = False,
    external_data: bool | None = None,
) -> None:
    """Writes `network` as standard ONNX with one input `input` and the named outputs.

    With `dynamic` the height and width are free. External data (`None`: as the size asks) lies beside the file as
    `NAME.onnx.data`, the only place that ONNX Runtime and oodstream take it from.
    """
    parameters = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    external_data = parameters > PROTOBUF_LIMIT if external_data is None else external_data
    axes = {name: {2: f"{name}_height", 3: f"{name}_width"} for name in ["input", *outputs]} if dynamic else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), warnings.catch_warnings():
        # The tracing exporter needs no further package and folds batch normalisation into convolutions.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", UserWarning)  # "Constant folding not applied": ONNX Runtime folds it on loading
        torch.onnx.export(
            network.eval(),
            (example,),
            str(path),
            input_names=["input"],
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    tidy(path, external_data)
    onnx.checker.check_model(str(path))


def tidy(path: pathlib.Path, external_data: bool) -> None:
    """Drops machine paths and debug strings that tracing leaves in the file; moves the weights out where asked."""
    # Above the limit the exporter itself has written one file per tensor; they are gathered into one. Loading forgets them.
    tensors = onnx.load(str(path), load_external_data=False).graph.initializer
    scattered = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    model = onnx.load(str(path))
    for node in model.graph.node:
        node.doc_string = ""
        if node.domain not in ("", "ai.onnx"):
            raise SystemExit(f"node {node.name} is {node.domain}::{node.op_type}, which is not standard ONNX")
    data = path.name + ".data"
    for stale in {data, *scattered}:
        (path.parent / stale).unlink(missing_ok=True)
    if external_data:
        onnx.save(model, str(path), save_as_external_data=True, location=data, size_threshold=1024)
    else:
        onnx.save(model, str(path))


def session(path: pathlib.Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session on the CPU; `threads` 0 is one per core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def difference(network: torch.nn.Module, path: pathlib.Path, pictures: list[torch.Tensor], outputs: list[str]) -> float:
    """Prints, per picture and output, the largest PyTorch - ONNX Runtime difference; returns the largest of all,
    each relative to the largest absolute value of its output where that is above 1."""
    runtime = session(path)
    worst = 0.0
    for picture in pictures:
        with torch.no_grad():
            expected = network.eval()(picture)
        found = runtime.run(outputs, {"input": picture.numpy()})
        for name, ours, theirs in zip(outputs, expected, found, strict=True):
            ours = ours.float().numpy()
            if ours.shape != theirs.shape:
                raise SystemExit(f"{name} is {theirs.shape} in ONNX Runtime, {ours.shape} in PyTorch")
            if not numpy.isfinite(theirs).all():
                raise SystemExit(f"{name} has values in ONNX Runtime that are not finite")
            absolute = float(numpy.abs(ours - theirs.astype(numpy.float32)).max())
            scale = float(numpy.abs(ours).max())
            worst = max(worst, absolute / max(1.0, scale))
            print(f"  {name} {list(theirs.shape)}: PyTorch - ONNX Runtime {absolute:.2e}, values up to {scale:.3g}")
    return worst


def prepared(picture: numpy.ndarray, mean: list[float], std: list[float]) -> torch.Tensor:
    """A picture `[h, w, 3]` of bytes as a network's input `[1, 3, h, w]`."""
    values = (picture.astype(numpy.float32) / 255 - numpy.float32(mean)) / numpy.float32(std)
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def test_picture(height: int, width: int) -> numpy.ndarray:
    """A picture `[h, w, 3]` of bytes with slopes, edges and noise in it."""
    random = numpy.random.default_rng(0)
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float32)
    planes = [x / width, y / height, ((x // 16 + y // 16) % 2) * 0.7 + 0.1]
    noise = random.uniform(-0.1, 0.1, (height, width, 3))
    return (255 * (numpy.stack(planes, -1) + noise).clip(0, 1)).astype(numpy.uint8)


def write_pair(path: pathlib.Path, picture: numpy.ndarray, logits: torch.Tensor) -> None:
    """Writes `NAME.check.png` and `NAME.check.npy`: a picture and PyTorch's logits for it, for `oodstream model verify`."""
    image, array = path.with_suffix(".check.png"), path.with_suffix(".check.npy")
    Image.fromarray(picture).save(image)
    numpy.save(array, logits.detach().float().numpy())
    print(f"wrote {image.name} and {array.name}; to compare with what `run` sees:")
    print(f"  oodstream model verify {path} --image {image} --logits {array}")


def load_checkpoint(path: pathlib.Path) -> dict:
    """The content of a PyTorch checkpoint; nothing in the file is executed. Ends the program with one line where it is none."""
    if not path.is_file():
        raise SystemExit(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(512)
    if start.lstrip()[:1] == b"<":
        raise SystemExit(f"{path}: a web page, not a checkpoint: the download did not give the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise SystemExit(f"{path}: a Git LFS pointer, not a checkpoint: `git lfs pull` fetches the file itself")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets
        # The first sentence: what follows is advice to load the file without its safeguard.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SystemExit(f"{path}: not a whole PyTorch checkpoint ({reason[0].split('. ')[0]})") from None
    if not isinstance(content, dict):
        raise SystemExit(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content


def write_manifest(
    path: pathlib.Path,
    *,
    name: str,
    licence: str,
    source: str,
    size: tuple[int, int] | None,
    features: list[str],
    classes: dict | None,
    outputs: dict[str, str] | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    dtype: str = "f32",
    about: str = "",
    scoring: str = "",
    resize: str = "stretch",
) -> None:
    """Writes `NAME.toml` beside `NAME.onnx`; `size` is height and width, `None` where the graph leaves it free;
    `outputs` are the keys of `[outputs]` but for the features, by default the logits; mean and deviation are ImageNet's
    by default; `classes` may lack a palette, and is `None` for a network without logits; `scoring` is the text of a `[scoring]` section."""
    text = json.dumps  # a JSON string is a TOML string
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    lines = [f"# {line}" for line in about.splitlines()]
    lines += ["[model]", f"name = {text(name)}", f"licence = {text(licence)}", f"source = {text(source)}"]
    lines += [f"sha256 = {text(digest.hexdigest())}", "", "[input]", 'name = "input"']
    if size is not None:
        lines += [f"height = {size[0]}", f"width = {size[1]}"]
    lines += ['layout = "nchw"', f"dtype = {text(dtype)}", f"mean = {mean or IMAGENET_MEAN}", f"std = {std or IMAGENET_STD}", f"resize = {text(resize)}"]
    lines += ["", "[outputs]", *(f"{key} = {text(value)}" for key, value in ({"logits": "logits"} if outputs is None else outputs).items())]
    lines += [f"features = {text(features)}"] if features else []
    if classes is not None:
        lines += ["", "[classes]", f"names = {text(classes['names'])}"]
        lines += [f"palette = {text(classes['palette'])}"] if classes.get("palette") else []
    if scoring:
        lines += ["", scoring.rstrip("\n")]
    path.with_suffix(".toml").write_text("\n".join(lines) + "\n")
    print(f"wrote {path.with_suffix('.toml')}")
