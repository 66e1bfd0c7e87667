#!/usr/bin/env python3
"""Speed of looking less often, as clock and CPU time of the ways in turn, round by round, and their medians.

    benches/archive.py keyframes target/release/oodstream models/default.onnx VIDEO [ROUNDS]
    benches/archive.py video     target/release/oodstream models/default.onnx VIDEO [ROUNDS]

`keyframes`: `--keyframes` beside `--every 1s` and a loop in Python, key frames by PyAV and the network by onnxruntime;
the loop has no clustering, no tracking and no events. `video`: a written video with every frame looked at, and with
`--every 0.5s`. Needs ffprobe, and for the loop av, numpy and onnxruntime.
"""
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def python_loop(model, video):
    import av
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name, (_, _, height, width) = session.get_inputs()[0].name, session.get_inputs()[0].shape
    frames, marked = 0, 0.0
    with av.open(video) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.skip_frame = "NONKEY"
        for frame in container.decode(stream):
            pixels = frame.to_ndarray(width=width, height=height, format="rgb24").astype(np.float32)
            tensor = ((pixels / 255 - 0.498039) / 0.501961).transpose(2, 0, 1)[None]
            logits = session.run(None, {name: tensor})[0]
            marked += float((logits.max(1) < 3).mean())
            frames += 1
    print(frames, marked / max(1, frames), file=sys.stderr)


def measure(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ways_of(kind, program, model, video, scratch):
    run = [program, "-q", "run", video, "--overwrite"]
    if kind == "video":
        run += ["-o", os.path.join(scratch, "out.mp4")]
        return {"every frame": run, "--every 0.5s": [*run, "--every", "0.5s"]}
    run += ["-o", "none", "-o", f"events:{scratch}/events.jsonl"]
    return {
        "--keyframes": [*run, "--keyframes"],
        "--every 1s": [*run, "--every", "1s"],
        "Python": [sys.executable, __file__, "--python", model, video],
    }


def main():
    kind, program, model, video = sys.argv[1:5]
    rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 3
    probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", video]
    seconds = float(subprocess.run(probe, check=True, capture_output=True, text=True).stdout)
    os.environ["OODSTREAM_MODEL"] = model
    with tempfile.TemporaryDirectory() as scratch:
        compare(ways_of(kind, program, model, video, scratch), rounds, seconds)


def compare(ways, rounds, seconds):
    times = {way: [] for way in ways}
    for _ in range(rounds):
        for way, command in ways.items():
            times[way].append(measure(command))
    print(f"{seconds:.0f} s of video, {os.cpu_count()} cores, medians of {rounds}")
    for way, taken in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*taken))
        speed, of_core = seconds / wall, seconds / cpu
        print(f"{way:13} {wall:6.1f} s {speed:5.1f} x real time, {cpu:6.1f} s of CPU time {of_core:5.1f} x")


if sys.argv[1:2] == ["--python"]:
    python_loop(*sys.argv[2:4])
else:
    main()
