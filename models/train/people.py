"""Which pixels a teacher takes for people: a segmentation network with a manifest, run through ONNX Runtime.

Some sets give one label to people and animals. Only those pixels of it become people that another network, trained on
finer labels, calls a person or a rider.
"""

import hashlib
import os
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from data import DataError

PEOPLE = {"person", "pedestrian", "rider", "bicyclist"}


class Teacher:
    """A network `NAME.onnx` with `NAME.toml` beside it; what it found is kept in the folder `cache`, if one is given."""

    def __init__(self, path, cache=None, threads=2):
        path = Path(path)
        try:
            manifest = tomllib.loads(path.with_suffix(".toml").read_text())
            payload = path.read_bytes()
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}") from error
        names = manifest["classes"]["names"]
        self.people = [i for i, name in enumerate(names) if name in PEOPLE]
        if not self.people:
            raise DataError(f"{path}: none of its classes is {', '.join(sorted(PEOPLE))}")
        self.section, self.logits = manifest["input"], manifest["outputs"]["logits"]
        self.payload, self.threads, self.session = payload, threads, None
        self.digest = hashlib.sha256(payload).hexdigest()
        self.cache = None if cache is None else Path(cache)

    def find(self, image):
        """Bool [h, w]: the pixels of an image [h, w, 3] u8 whose most likely class is people."""
        if self.session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            options.log_severity_level = 3
            self.session = onnxruntime.InferenceSession(self.payload, options, providers=["CPUExecutionProvider"])
        logits = self.session.run([self.logits], {self.section["name"]: preparation(self.section)(image)})[0][0]
        found = np.isin(logits.argmax(0), self.people).astype(np.uint8)
        return np.asarray(Image.fromarray(found).resize((image.shape[1], image.shape[0]), Image.NEAREST)) > 0


def preparation(section):
    """Function from an RGB image [h, w, 3] u8 to the network's input [1, 3, H, W] f32, as a manifest's [input] has it."""
    size = section["width"], section["height"]
    mean, std = (np.array(section[key], np.float32)[:, None, None] for key in ("mean", "std"))

    def prepare(image):
        small = np.asarray(Image.fromarray(image).resize(size, Image.BILINEAR), np.float32)
        return ((small.transpose(2, 0, 1) / np.float32(255) - mean) / std)[None]
    return prepare


def people_masks(images, living, teacher):
    """Bool [h, w] per image: people among the pixels marked in `living`."""
    if teacher is None:
        raise DataError("idd_lite needs a teacher that tells people from animals (--teacher)")
    key = hashlib.sha256(teacher.digest.encode())
    for image in images:
        key.update(image.tobytes())
    kept = None if teacher.cache is None else teacher.cache / f"people-{key.hexdigest()[:16]}.npz"
    if kept is not None and kept.exists():
        packed = np.load(kept)
        return [np.unpackbits(packed[str(i)], count=mask.size).reshape(mask.shape).astype(bool)
                for i, mask in enumerate(living)]
    masks = [teacher.find(image) & mask if mask.any() else mask for image, mask in zip(images, living)]
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = kept.with_suffix(".part.npz")
        np.savez(aside, **{str(i): np.packbits(mask) for i, mask in enumerate(masks)})
        os.replace(aside, kept)
    return masks
