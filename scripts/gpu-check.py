"""What others do on the same machine, for gpu-check.sh: K-Means in PyTorch and faiss, and a Python pipeline.

Times are medians of five in milliseconds. What is not installed is left out and named in `skipped`.
"""

import argparse
import json
import statistics
import time

N, D, K, ROUNDS = 32768, 64, 20, 10


def median_ms(work, synchronise=lambda: None, repeats=5):
    work()
    times = []
    for _ in range(repeats):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def torch_kmeans(device):
    """Lloyd's rounds with the distances as one matrix product, and sums by index_add."""
    import torch

    torch.manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(N, D, device=device), dim=1)

    def lloyd():
        centroids = points[:K].clone()
        for _ in range(ROUNDS):
            labels = (points @ centroids.T - 0.5 * (centroids * centroids).sum(1)).argmax(1)
            sums = torch.zeros_like(centroids).index_add_(0, labels, points)
            counts = torch.zeros(K, device=device).index_add_(0, labels, torch.ones(N, device=device))
            centroids = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids)
        return centroids

    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    return median_ms(lloyd, synchronise)


def faiss_kmeans():
    import faiss
    import numpy as np

    points = np.random.default_rng(0).standard_normal((N, D)).astype("float32")
    gpu = hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0
    kmeans = faiss.Kmeans(D, K, niter=ROUNDS, gpu=gpu, max_points_per_centroid=N, min_points_per_centroid=1)
    return {"ms": median_ms(lambda: kmeans.train(points)), "gpu": gpu}


def python_pipeline(model, clip):
    """OpenCV decodes and resizes, ONNX Runtime infers; frames a second, without clustering and encoding."""
    import cv2
    import numpy as np
    import onnxruntime

    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(model, providers=wanted)
    (entry,) = session.get_inputs()
    _, _, height, width = entry.shape
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    video, frames, start = cv2.VideoCapture(clip), 0, None
    while True:
        there, frame = video.read()
        if not there:
            break
        picture = cv2.cvtColor(cv2.resize(frame, (int(width), int(height)), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        tensor = ((np.float32(picture) / 255 - mean) / deviation).transpose(2, 0, 1)[None]
        session.run(None, {entry.name: np.ascontiguousarray(tensor)})
        frames += 1
        start = start or time.perf_counter()  # the first run builds what the provider keeps
    return {"fps": (frames - 1) / (time.perf_counter() - start), "providers": session.get_providers()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--json", required=True)
    arguments = parser.parse_args()
    report = {"kmeans": {"n": N, "d": D, "k": K, "rounds": ROUNDS}, "skipped": {}}

    def attempt(name, work):
        try:
            report[name] = work()
            print(f"{name}: {report[name]}")
        except Exception as error:  # what is missing or fails here is a result, too
            report["skipped"][name] = f"{type(error).__name__}: {error}"
            print(f"{name}: skipped: {error}")

    attempt("torch_cuda_ms", lambda: torch_kmeans("cuda"))
    attempt("torch_cpu_ms", lambda: torch_kmeans("cpu"))
    attempt("faiss", faiss_kmeans)
    attempt("pipeline", lambda: python_pipeline(arguments.model, arguments.clip))
    with open(arguments.json, "w") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main()
