"""Ordinary footage without labels, videos and pictures, labelled by the network itself."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from data import DataError, Frames, normalise, resize_to_input

PICTURES = {".jpg", ".jpeg", ".png"}
# Longer videos are thinned out.
FRAMES_PER_VIDEO = 120


def check(paths):
    """Raise a `DataError` that names the first path which is no file."""
    for path in paths:
        if not Path(path).is_file():
            raise DataError(f"{path}: no such file")


def decode(path):
    """A picture, or the frames of a video evenly thinned out to `FRAMES_PER_VIDEO`: a list of [h, w, 3] u8."""
    check([path])
    if Path(path).suffix.lower() in PICTURES:
        try:
            return [np.asarray(Image.open(path).convert("RGB"))]
        except OSError as error:
            raise DataError(f"{path}: not a picture that can be read") from error
    with tempfile.TemporaryDirectory() as folder:
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-q:v", "2", f"{folder}/%06d.jpg"]
        done = subprocess.run(command, capture_output=True, text=True)
        names = sorted(Path(folder).iterdir())
        if done.returncode or not names:
            raise DataError(f"{path}: {(done.stderr.strip().splitlines() or ['no frames'])[-1]}")
        return [np.asarray(Image.open(name).convert("RGB")) for name in names[::-(-len(names) // FRAMES_PER_VIDEO)]]


def labelled(run, paths):
    """`Frames` of videos and pictures whose labels are the network's own classes; `run` is an ONNX Runtime session."""
    images = [image for path in paths for image in decode(path)]
    labels = []
    for image in images:
        logits = run.run(["logits"], {"input": normalise(resize_to_input(image))[None]})[0]
        full = F.interpolate(torch.from_numpy(logits), size=image.shape[:2], mode="bilinear", align_corners=False)
        labels.append(full[0].argmax(0).numpy().astype(np.uint8))
    return Frames(images, labels)
