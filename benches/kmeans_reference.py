"""Times scikit-learn's KMeans and faiss on the points and seeds that `oodstream bench kmeans` wrote.

    python kmeans_reference.py DIR --n 32768 --d 64 --k 20 --iterations 10 --threads 2 --repeats 5

DIR has points.f32 [n, d], seeds.f32 [k, d] and labels.u32 [n], raw little-endian. Prints one JSON object; a library that
is not installed is left out. Needs numpy, and scikit-learn and faiss-cpu for their parts.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    for name in ("n", "d", "k", "iterations", "threads", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


ARGS = arguments()
# Read when the libraries load; a pinned core type would slow OpenBLAS down.
os.environ.pop("OPENBLAS_CORETYPE", None)
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = str(ARGS.threads)

import numpy as np  # noqa: E402  (after the environment is set)


def milliseconds(job):
    """Median over the repeats, after one run to warm up, and the last result."""
    job()
    times = []
    for _ in range(ARGS.repeats):
        start = time.perf_counter()
        result = job()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), result


def with_sklearn(points, seeds):
    from sklearn.cluster import KMeans

    def job():
        return KMeans(ARGS.k, init=seeds, n_init=1, max_iter=ARGS.iterations, tol=0, algorithm="lloyd").fit(points).labels_

    return milliseconds(job)


def with_faiss(points, seeds):
    import faiss

    faiss.omp_set_num_threads(ARGS.threads)

    def job():
        kmeans = faiss.Kmeans(
            ARGS.d, ARGS.k, niter=ARGS.iterations, min_points_per_centroid=1, max_points_per_centroid=ARGS.n
        )
        kmeans.train(points, init_centroids=seeds)
        return kmeans.index.search(points, 1)[1][:, 0]

    return milliseconds(job)


def main():
    points = np.fromfile(ARGS.dir / "points.f32", "<f4").reshape(ARGS.n, ARGS.d)
    seeds = np.fromfile(ARGS.dir / "seeds.f32", "<f4").reshape(ARGS.k, ARGS.d)
    labels = np.fromfile(ARGS.dir / "labels.u32", "<u4")
    report = {}
    for name, measure in (("sklearn", with_sklearn), ("faiss", with_faiss)):
        try:
            ms, theirs = measure(points, seeds)
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        report[f"{name}_ms"] = ms
        report["labels_differ" if name == "sklearn" else "faiss_labels_differ"] = int((theirs != labels).sum())
    print(json.dumps(report))


if __name__ == "__main__":
    main()
