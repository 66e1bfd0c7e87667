"""Labelled road frames in memory, and the augmentation that turns them into training crops.

A data folder holds `images/` (JPEG, PNG or WebP) and `labels/` (PNG of one channel) with equal file stems.
Label values are class indices; `VOID` is left out of the loss and of every metric.
"""

import io
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
PALETTE = [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
           [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]]
VOID = 11
# RGB in 0..1; what the ImageNet weights were trained with.
MEAN, STD = 127 / 255, 128 / 255
HEIGHT, WIDTH = 368, 640  # the network's input
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class DataError(Exception):
    """A data folder that cannot be used; the message is one line that says what is wrong and where."""


class Frames:
    """Decoded frames of one folder: `images[i]` is [h, w, 3] u8 RGB, `labels[i]` is [h, w] u8."""

    def __init__(self, folder):
        folder = Path(folder)
        for sub in ("images", "labels"):
            if not (folder / sub).is_dir():
                raise DataError(f"{folder / sub}: no such folder")
        paths = sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise DataError(f"{folder / 'images'}: no JPEG, PNG or WebP image")
        self.images, self.labels = [], []
        for path in paths:
            label_path = folder / "labels" / (path.stem + ".png")
            if not label_path.is_file():
                raise DataError(f"{label_path}: label missing for {path.name}")
            image = np.asarray(Image.open(path).convert("RGB"))
            label = np.asarray(Image.open(label_path))
            if label.ndim != 2 or label.dtype != np.uint8:
                raise DataError(f"{label_path}: want one channel of 8 bits")
            if label.shape != image.shape[:2]:
                raise DataError(f"{label_path}: label is {label.shape[1]}x{label.shape[0]}, "
                                f"image is {image.shape[1]}x{image.shape[0]}")
            if label.max() > VOID:
                raise DataError(f"{label_path}: label value {label.max()}, want 0..{VOID} ({VOID} is void)")
            self.images.append(image)
            self.labels.append(label)

    def __len__(self):
        return len(self.images)

    def class_shares(self):
        """Share of each class among the labelled pixels, [classes] f64."""
        counts = sum(np.bincount(label.ravel(), minlength=VOID + 1) for label in self.labels)[:VOID]
        return counts / max(counts.sum(), 1)


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
    zoom = np.exp(rng.uniform(*np.log(crops.zoom)))
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
    """Training batches. Epoch `e` is the same for the same seed, whatever came before it, so a run can be resumed."""

    def __init__(self, frames, extra, extra_share, batch, seed, crops=Crops()):
        self.frames, self.extra, self.share = frames, extra, extra_share if extra else 0.0
        self.batch, self.seed, self.crops = batch, seed, crops
        self.steps = len(frames) // batch

    def epoch(self, number):
        """Yields ([batch, 3, height, width] f32, [batch, height, width] i64)."""
        with ThreadPoolExecutor(1) as pool:
            ahead = deque(pool.submit(self.load, number, step) for step in range(min(2, self.steps)))
            for step in range(self.steps):
                ready = ahead.popleft().result()
                if step + 2 < self.steps:
                    ahead.append(pool.submit(self.load, number, step + 2))
                yield ready

    def load(self, number, step):
        """Batch `step` of epoch `number`."""
        order = np.random.default_rng([self.seed, number]).permutation(len(self.frames))
        cut = [self.crop(number, int(i)) for i in order[step * self.batch:(step + 1) * self.batch]]
        return (np.stack([normalise(image) for image, _ in cut]),
                np.stack([label for _, label in cut]).astype(np.int64))

    def crop(self, epoch, index):
        rng = np.random.default_rng([self.seed, epoch, index + 1])
        source = self.frames
        if self.share > 0 and rng.random() < self.share:
            source, index = self.extra, int(rng.integers(len(self.extra)))
        return augment(source.images[index], source.labels[index], rng, self.crops)
