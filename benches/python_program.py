#!/usr/bin/env python3
"""The whole job of `oodstream run` against the same job as a Python program, in turn, round by round, and the medians.

    benches/python_program.py target/release/oodstream models/default.onnx VIDEO [ROUNDS] [-- OPTIONS OF RUN]

The Python program decodes and resizes by OpenCV, runs the network by onnxruntime, clusters by scikit-learn (K = 5, 10,
20, k-means++, one run each, at most 50 iterations), blends the marked pixels by OpenCV, and pipes the frames to ffmpeg
with the encoder settings of `run`. `run` takes the method `cluster-ensemble`; it copies the sound and finds events as
well. Needs ffmpeg, and numpy, onnxruntime, scikit-learn and opencv-python-headless. Clock and CPU time, each with its
ratio. On a busy machine OMP_NUM_THREADS=1 keeps scikit-learn's threads from waiting for each other in a loop.
"""
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

THRESHOLD = "-3.0"
ENCODER = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"]


def python_program(model, video, output):
    import cv2
    import numpy as np
    import onnxruntime
    from sklearn.cluster import KMeans

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name, (_, _, height, width) = session.get_inputs()[0].name, session.get_inputs()[0].shape
    mean, std = np.float32([0.498039] * 3), np.float32([0.501961] * 3)
    source = cv2.VideoCapture(video)
    columns, rows = (int(source.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{columns}x{rows}", "-r", str(source.get(cv2.CAP_PROP_FPS))]
    command = ["ffmpeg", "-v", "error", "-y", *raw, "-i", "-", *ENCODER, output]
    sink = subprocess.Popen(command, stdin=subprocess.PIPE)
    while True:
        more, frame = source.read()
        if not more:
            break
        picture = cv2.cvtColor(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        tensor = ((picture.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)[None]
        logits, features = session.run(["logits", "features"], {name: tensor})
        depth, *grid = features.shape[1:]
        points = features[0].reshape(depth, -1).T
        points = points / np.linalg.norm(points, axis=1, keepdims=True).clip(1e-20)
        confidence = cv2.resize(logits[0].transpose(1, 2, 0), grid[::-1], interpolation=cv2.INTER_AREA).max(2).ravel()
        score = np.zeros(len(points))
        for k in (5, 10, 20):
            labels = KMeans(k, init="k-means++", n_init=1, max_iter=50, random_state=0).fit_predict(points)
            sizes = np.bincount(labels, minlength=k).clip(1)
            score -= (np.bincount(labels, confidence, minlength=k) / sizes)[labels] / 3
        score = cv2.resize(score.reshape(grid).astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
        marked = score >= float(THRESHOLD)
        frame[marked] = (frame[marked] * 0.55 + np.array([0, 0, 255]) * 0.45).astype(np.uint8)
        sink.stdin.write(frame.tobytes())
    sink.stdin.close()
    if sink.wait() != 0:
        raise SystemExit("ffmpeg failed")


def seconds(command):
    """Clock and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--program":
        return python_program(*arguments[1:])
    extra = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    program, model, video, *rounds = arguments[: len(arguments) - len(extra) - ("--" in arguments)]
    with tempfile.TemporaryDirectory() as folder:
        output = str(pathlib.Path(folder) / "out.mp4")
        run = [program, "run", video, "-o", output, "--overwrite", "-q", "-m", model, "--method", "cluster-ensemble"]
        sides = {
            "run": [*run, f"--threshold={THRESHOLD}", *extra],
            "python": [sys.executable, __file__, "--program", model, video, output],
        }
        times = {side: [] for side in sides}
        for number in range(int(rounds[0]) if rounds else 5):
            for side, command in sides.items():
                times[side].append(seconds(command))
            print(number + 1, {side: tuple(round(t, 2) for t in all[-1]) for side, all in times.items()}, flush=True)
    for what, at in (("clock", 0), ("CPU", 1)):
        middle = {side: statistics.median(one[at] for one in all) for side, all in times.items()}
        print(f"{what}: run {middle['run']:.2f} s, Python {middle['python']:.2f} s, ratio {middle['run'] / middle['python']:.3f}")


main()
