"""Labelled road frames in memory, and the augmentation that turns them into training crops.

A label is a number per pixel: below `len(CLASSES)` the class of that index; from there on a coarse label, which leaves
open which of several classes it is; `VOID` is left out of the loss and of every metric.
"""

import io
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

# CamVid's eleven first, in its order.
CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
           "terrain"]
PALETTE = [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
           [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192], [152, 251, 152]]
COARSE = [("tree", "terrain"), ("building", "tree", "terrain"), ("car", "bicyclist"), ("pedestrian", "bicyclist"),
          ("pavement", "terrain"), ("building", "pole", "pavement", "sign", "fence")]
VOID = 255
# RGB in 0..1; what the ImageNet weights were trained with.
MEAN, STD = 127 / 255, 128 / 255
HEIGHT, WIDTH = 368, 640  # the network's input
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class DataError(Exception):
    """A data folder that cannot be used; the message is one line that says what is wrong and where."""


def label_id(*names):
    """The label of a class, or of several that a coarse label leaves open."""
    return CLASSES.index(names[0]) if len(names) == 1 else len(CLASSES) + COARSE.index(names)


def members():
    """Bool [256, classes]: which classes a pixel of each label may be. Void may be any."""
    table = np.ones((256, len(CLASSES)), bool)
    for label, names in enumerate([*((name,) for name in CLASSES), *COARSE]):
        table[label] = [name in names for name in CLASSES]
    return table


class Frames:
    """Decoded frames: `images[i]` is [h, w, 3] u8 RGB, `labels[i]` is [h, w] u8 label ids."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    @classmethod
    def read(cls, folder, mapping, images=True):
        """FOLDER/images (JPEG, PNG or WebP) with FOLDER/labels (PNG, one channel of 8 bits) of equal file stems.

        `mapping` [256] u8 turns a file's values into label ids. Without `images` only the labels are kept.
        """
        folder = Path(folder)
        for sub in ("images", "labels"):
            if not (folder / sub).is_dir():
                raise DataError(f"{folder / sub}: no such folder")
        paths = sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise DataError(f"{folder / 'images'}: no JPEG, PNG or WebP image")
        frames = cls([], [])
        for path in paths:
            label_path = folder / "labels" / (path.stem + ".png")
            if not label_path.is_file():
                raise DataError(f"{label_path}: label missing for {path.name}")
            label = np.asarray(Image.open(label_path))
            with Image.open(path) as image:
                size, pixels = image.size, np.asarray(image.convert("RGB")) if images else None
            if label.ndim != 2 or label.dtype != np.uint8:
                raise DataError(f"{label_path}: want one channel of 8 bits")
            if label.shape != size[::-1]:
                raise DataError(f"{label_path}: label is {label.shape[1]}x{label.shape[0]}, image is {size[0]}x{size[1]}")
            if images:
                frames.images.append(pixels)
            frames.labels.append(mapping[label])
        return frames

    def __len__(self):
        return len(self.labels)

    def class_shares(self):
        """Share of each class among the labelled pixels, [classes] f64; a coarse label counts in equal parts."""
        counts = sum(np.bincount(label.ravel(), minlength=256) for label in self.labels)
        counts[VOID] = 0
        may_be = members()
        shares = counts @ (may_be / may_be.sum(1, keepdims=True))
        return shares / max(shares.sum(), 1)


def class_weights(shares, power, low=0.5, high=2.5):
    """Loss weight per class: rarer is heavier, bounded, so that thin classes count and big ones still do."""
    return np.clip((np.median(shares) / np.maximum(shares, 1e-6)) ** power, low, high).astype(np.float32)


def normalise(image):
    """[h, w, 3] u8 to [3, h, w] f32 as the network wants it."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)) * np.float32(1 / 255 / STD) - np.float32(MEAN / STD)


def resize_to_input(image):
    """Stretch an RGB image of any size to the network's input size."""
    return np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.BILINEAR))


@dataclass(frozen=True)
class Crops:
    """How training crops are cut: windows of the network's input, zoomed by a factor between two bounds."""

    height: int = 288
    width: int = 384
    zoom: tuple = (0.6, 2.0)
    # Inference stretches every frame to one aspect. True: crops have that aspect, the frame's own, or one in between.
    squeeze: bool = True
    # Share of the crops whose colours and sharpness are changed.
    altered: float = 1.0
    # A frame's pixels are enlarged by this much at most: what is blurred teaches the wrong edges.
    enlarged: float = 2.4


def augment(image, label, rng, crops=Crops()):
    """One training crop: ([height, width, 3] u8, [height, width] u8)."""
    image, label = random_crop(image, label, rng, crops)
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    image, label = np.ascontiguousarray(image), np.ascontiguousarray(label)
    if crops.altered < 1 and rng.random() >= crops.altered:
        return image, label
    return degrade(recolour(image, rng), rng), label


def random_crop(image, label, rng, crops):
    h, w = label.shape
    low, high = crops.zoom
    high = max(min(high, crops.enlarged * w / WIDTH), low)
    zoom = np.exp(rng.uniform(*np.log((low, high))))
    native = min((w / h) / (WIDTH / HEIGHT), 1.0) if crops.squeeze else 1.0
    sx = WIDTH / w * zoom * rng.uniform(0.93 * native, 1.07)
    sy = HEIGHT / h * zoom
    bw, bh = crops.width / sx, crops.height / sy
    x = rng.uniform(0, w - bw) if bw < w else rng.uniform(w - bw, 0)
    y = rng.uniform(0, h - bh) if bh < h else rng.uniform(h - bh, 0)
    # The part of the window that lies inside the frame, then where that part goes in the crop.
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + bw, w), min(y + bh, h)
    left, top = round((x0 - x) * sx), round((y0 - y) * sy)
    cw = max(min(round((x1 - x0) * sx), crops.width - left), 1)
    ch = max(min(round((y1 - y0) * sy), crops.height - top), 1)
    box = (x0, y0, x1, y1)
    part = np.asarray(Image.fromarray(image).resize((cw, ch), Image.BILINEAR, box=box))
    part_label = np.asarray(Image.fromarray(label).resize((cw, ch), Image.NEAREST, box=box))
    if (ch, cw) == (crops.height, crops.width):
        return part, part_label
    out = np.full((crops.height, crops.width, 3), 127, np.uint8)
    out_label = np.full((crops.height, crops.width), VOID, np.uint8)
    out[top:top + ch, left:left + cw] = part
    out_label[top:top + ch, left:left + cw] = part_label
    return out, out_label


def recolour(image, rng):
    """Light, colour and weather: white balance, saturation, contrast, brightness, gamma, fog, night, a cast shadow."""
    x = image.astype(np.float32) / 255
    if rng.random() < 0.8:
        # White balance, saturation, contrast and brightness are linear: one 3x3 matrix and an offset.
        balance, saturation = rng.uniform(0.8, 1.2, 3), rng.uniform(0.2, 1.8)
        contrast, brightness = rng.uniform(0.6, 1.5), rng.uniform(0.6, 1.5)
        luma = np.array([[0.299], [0.587], [0.114]]) @ np.ones((1, 3))
        matrix = np.diag(balance) @ (luma + saturation * (np.eye(3) - luma))
        mean = float((x[::4, ::4].reshape(-1, 3) @ matrix).mean())
        offset = mean * (brightness - contrast)
        x = (x.reshape(-1, 3) @ (contrast * matrix).astype(np.float32)).reshape(x.shape) + np.float32(offset)
    np.clip(x, 0, 1, out=x)
    if rng.random() < 0.3:
        x **= np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < 0.15:
        # Fog is thicker towards the horizon, which lies anywhere in a crop.
        rows = np.abs(np.linspace(0, 1, x.shape[0], dtype=np.float32) - np.float32(rng.random()))
        density = np.float32(rng.uniform(0.2, 0.75)) * np.exp(-2 * rows)[:, None, None]
        x = x * (1 - density) + density * np.float32(rng.uniform(0.6, 0.95))
    if rng.random() < 0.12:
        x *= np.float32(rng.uniform(0.2, 0.6)) * np.array([0.9, 0.95, 1.1], np.float32)
    if rng.random() < 0.25:
        # The edge of a shadow: a half-plane that is darker.
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
        ys = np.linspace(-0.5, 0.5, x.shape[0], dtype=np.float32)[:, None] * np.float32(np.sin(angle))
        xs = np.linspace(-0.5, 0.5, x.shape[1], dtype=np.float32)[None] * np.float32(np.cos(angle))
        x[(xs + ys) > offset] *= np.float32(rng.uniform(0.4, 0.8))
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def degrade(image, rng):
    """What lenses, sensors and codecs do: blur, low resolution, noise, JPEG blocks."""
    picture = Image.fromarray(image)
    if rng.random() < 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.8)))
    elif rng.random() < 0.15:
        shrink = rng.uniform(0.35, 0.8)
        small = picture.resize((int(picture.width * shrink), int(picture.height * shrink)), Image.BILINEAR)
        picture = small.resize(picture.size, Image.BILINEAR)
    if rng.random() < 0.2:
        x = np.asarray(picture).astype(np.float32)
        noise = rng.standard_normal(x.shape[:2] + (rng.choice([1, 3]),), dtype=np.float32)
        picture = Image.fromarray(np.clip(x + noise * np.float32(rng.uniform(2, 14)), 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(25, 85)))
        picture = Image.open(buffer)
    return np.asarray(picture)


class Batches:
    """Training batches. Batch `n` is the same for the same seed, whatever came before it, so a run can be resumed."""

    def __init__(self, sources, shares, seed):
        """`sources`: a list of `Frames`; `shares`: of each the share of the crops, adding up to 1."""
        self.sources, self.shares, self.seed = sources, shares, seed

    def between(self, first, last, size, crops):
        """Yields batches `first` to `last` - 1: ([size, 3, height, width] f32, [size, height, width] i64)."""
        with ThreadPoolExecutor(1) as pool:
            ahead = deque(pool.submit(self.load, n, size, crops) for n in range(first, min(first + 2, last)))
            for n in range(first, last):
                ready = ahead.popleft().result()
                if n + 2 < last:
                    ahead.append(pool.submit(self.load, n + 2, size, crops))
                yield ready

    def load(self, number, size, crops):
        """Batch `number`."""
        cut = [self.crop(np.random.default_rng([self.seed, number, i]), crops) for i in range(size)]
        return (np.stack([normalise(image) for image, _ in cut]),
                np.stack([label for _, label in cut]).astype(np.int64))

    def crop(self, rng, crops):
        source = self.sources[rng.choice(len(self.sources), p=self.shares)]
        index = int(rng.integers(len(source)))
        return augment(source.images[index], source.labels[index], rng, crops)
