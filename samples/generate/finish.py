"""Turns what Blender rendered into the committed sample or into training frames (Python with numpy and Pillow, and ffmpeg).

  finish.py train RAW OUT            OUT/images/*.jpg and OUT/labels/*.png of the same stem
  finish.py clip RAW SAMPLES UNPACK  SAMPLES/street.{mp4,masks.zip,labels.zip}; UNPACK/{frames,masks,labels}/####.png
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import wave
import zipfile

import numpy as np
from PIL import Image, ImageFilter

UNKNOWN = 254
CAMVID_CLASSES = 12


def fail(message):
    sys.exit(f"finish.py: {message}")


def pairs(raw):
    """Rendered pictures with their class ids, in order."""
    found = sorted(pathlib.Path(raw).glob("rgb_*.png"))
    if not found:
        fail(f"no rgb_*.png in {raw}")
    for path in found:
        ids = path.with_name(path.name.replace("rgb_", "ids_"))
        if not ids.exists():
            fail(f"{path} has no {ids.name} beside it")
        yield path.stem[4:], path, ids


class Lens:
    """What a dashcam does to a picture: softness, sharpening, cast, vignette, sensor grain."""

    def __init__(self, rng, steady=False):
        def draw(low, high):
            return (low + high) / 2 if steady else rng.uniform(low, high)

        self.blur, self.sharpen = draw(0.3, 0.8), draw(30, 110)
        self.cast = np.array([1 + draw(-0.05, 0.05), 1.0, 1 + draw(-0.05, 0.06)], np.float32)
        self.contrast, self.vignette, self.grain = draw(0.95, 1.2), draw(0.0, 0.22), draw(1.0, 4.0)

    def __call__(self, image, rng):
        image = image.filter(ImageFilter.GaussianBlur(self.blur)).filter(ImageFilter.UnsharpMask(1.2, int(self.sharpen), 2))
        x = np.asarray(image, np.float32) * self.cast
        x = (x - 110) * self.contrast + 112
        h, w = x.shape[:2]
        v, u = np.mgrid[-1:1:h * 1j, -1:1:w * 1j].astype(np.float32)
        x *= (1 - self.vignette * (u * u + v * v) / 2)[..., None]
        light = rng.normal(0, self.grain, (h, w, 1)).astype(np.float32)
        colour = rng.normal(0, self.grain * 0.4, (h, w, 3)).astype(np.float32)
        return Image.fromarray(np.clip(x + light + colour, 0, 255).astype(np.uint8))


def class_ids(path):
    ids = np.asarray(Image.open(path))
    strange = set(np.unique(ids)) - set(range(CAMVID_CLASSES)) - {UNKNOWN}
    if strange:
        fail(f"{path} holds ids that are no class: {sorted(strange)}")
    return ids


def train(raw, out):
    images, labels = pathlib.Path(out, "images"), pathlib.Path(out, "labels")
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    count = 0
    for stem, rgb, ids_path in pairs(raw):
        rng = np.random.default_rng(int(stem))
        ids = class_ids(ids_path)
        if (ids == UNKNOWN).any():
            fail(f"{ids_path} shows an unknown thing: not for training")
        name = f"street_{stem}"
        Lens(rng)(Image.open(rgb).convert("RGB"), rng).save(images / f"{name}.jpg", quality=int(rng.integers(86, 96)))
        Image.fromarray(ids).save(labels / f"{name}.png", optimize=True)
        count += 1
    print(f"{count} training frames in {out}")


def low_pass(x, rate, cutoff):
    """Zero-phase low pass in the frequency domain."""
    f = np.fft.rfftfreq(len(x), 1 / rate)
    return np.fft.irfft(np.fft.rfft(x) / (1 + (f / cutoff) ** 4), len(x))


def sound(motion, path, rate=22050):
    """Engine hum, tyre and wind noise that follow the speed."""
    rng = np.random.default_rng(5)
    frames = len(motion["speed"])
    n = int(frames / motion["fps"] * rate)
    v = np.interp(np.arange(n) / rate, np.arange(frames) / motion["fps"], motion["speed"])
    v = low_pass(np.pad(v, rate, "edge"), rate, 2.0)[rate:-rate]
    phase = 2 * np.pi * np.cumsum(24 + 4.6 * v) / rate
    hum = sum(a * np.sin(k * phase + k * k) for k, a in ((1, 0.5), (2, 1.0), (3, 0.35), (4, 0.5), (6, 0.25), (8, 0.12)))
    hum *= 1 + 0.1 * low_pass(rng.normal(size=n), rate, 12) * 8
    noise = rng.normal(size=n)
    tyre = low_pass(noise, rate, 900) - low_pass(noise, rate, 120)
    wind = low_pass(rng.normal(size=n), rate, 260)
    mix = 0.10 * hum + 0.9 * tyre * (v / 8.5) ** 1.3 + 0.8 * wind * (v / 8.5) ** 2
    mix *= 0.28 / np.sqrt(np.mean(mix ** 2)) * 0.5
    edge = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.15 * rate))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(mix * edge, -1, 1) * 32767).astype("<i2").tobytes())


def ffmpeg(*args):
    done = subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, args)], check=False)
    if done.returncode:
        fail(f"ffmpeg ended with {done.returncode}")


def pack(folder, target):
    """Zip with fixed times, so that the same frames give the same file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
        for path in sorted(folder.glob("*.png")):
            out.writestr(zipfile.ZipInfo(path.name, (2020, 1, 1, 0, 0, 0)), path.read_bytes())


def clip(raw, samples, unpack):
    samples, unpack = pathlib.Path(samples), pathlib.Path(unpack)
    motion = json.loads(pathlib.Path(raw, "motion.json").read_text(encoding="ascii"))
    found = list(pairs(raw))
    if [int(stem) for stem, _, _ in found] != list(range(len(motion["speed"]))):
        fail(f"{raw} holds {len(found)} frames, the drive has {len(motion['speed'])}")
    for name in ("frames", "masks", "labels"):
        (unpack / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    lens = Lens(rng, steady=True)
    lens.blur, lens.sharpen, lens.grain, lens.contrast = 0.95, 45, 1.0, 1.0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for stem, rgb, ids_path in found:
            ids = class_ids(ids_path)
            lens(Image.open(rgb).convert("RGB"), rng).save(scratch / f"{stem}.png", compress_level=1)
            Image.fromarray((ids == UNKNOWN).astype(np.uint8)).save(unpack / "masks" / f"{stem}.png", optimize=True)
            Image.fromarray(ids).save(unpack / "labels" / f"{stem}.png", optimize=True)
        sound(motion, scratch / "sound.wav")
        ffmpeg("-framerate", motion["fps"], "-i", scratch / "%04d.png", "-i", scratch / "sound.wav",
               "-vf", "hqdn3d=2:1.5:2.5:2.5,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p", "-colorspace", "bt709", "-color_primaries", "bt709",
               "-color_trc", "bt709", "-c:v", "libx264", "-preset", "slow", "-crf", "26", "-g", 30, "-threads", 1,
               "-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart", "-map_metadata", -1, "-fflags", "+bitexact", "-flags:v", "+bitexact",
               "-flags:a", "+bitexact", samples / "street.mp4")
    ffmpeg("-i", samples / "street.mp4", "-start_number", 0, "-fps_mode", "passthrough", unpack / "frames" / "%04d.png")
    decoded = len(list((unpack / "frames").glob("*.png")))
    if decoded != len(found):
        fail(f"the mp4 decodes to {decoded} frames, {len(found)} were rendered")
    pack(unpack / "masks", samples / "street.masks.zip")
    pack(unpack / "labels", samples / "street.labels.zip")
    print(f"{decoded} frames, {(samples / 'street.mp4').stat().st_size} bytes of video")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, places in (("train", ("raw", "out")), ("clip", ("raw", "samples", "unpack"))):
        sub = commands.add_parser(name)
        for place in places:
            sub.add_argument(place)
    args = parser.parse_args()
    if args.command == "train":
        train(args.raw, args.out)
    else:
        clip(args.raw, args.samples, args.unpack)


main()
