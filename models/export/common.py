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


def write_manifest(
    path: pathlib.Path,
    *,
    name: str,
    licence: str,
    source: str,
    size: tuple[int, int] | None,
    features: list[str],
    classes: dict,
    dtype: str = "f32",
    about: str = "",
    scoring: str = "",
) -> None:
    """Writes `NAME.toml` beside `NAME.onnx`; `size` is height and width, `None` where the graph leaves it free;
    `scoring` is the text of a `[scoring]` section."""
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
    lines += ['layout = "nchw"', f"dtype = {text(dtype)}", f"mean = {IMAGENET_MEAN}", f"std = {IMAGENET_STD}", 'resize = "stretch"']
    lines += ["", "[outputs]", 'logits = "logits"', f"features = {text(features)}"]
    lines += ["", "[classes]", f"names = {text(classes['names'])}", f"palette = {text(classes['palette'])}"]
    if scoring:
        lines += ["", scoring.rstrip("\n")]
    path.with_suffix(".toml").write_text("\n".join(lines) + "\n")
    print(f"wrote {path.with_suffix('.toml')}")
