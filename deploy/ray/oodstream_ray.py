#!/usr/bin/env python3
"""Runs oodstream on an archive with Ray Data: batches of files in actors, on one machine or a cluster.

    pip install -r deploy/ray/requirements.txt
    oodstream_ray.py /data/archive -o /shared/results
    oodstream_ray.py s3://bucket/archive -o s3://bucket/results --actors 64 -- --every 0.5s --time-zone UTC

An actor works on a batch of files in a folder of its own with one run of the program, so that the network is loaded
once per batch and no frame passes through Ray. Each file's outputs are published as soon as it is done, and its
completion record last. A batch whose worker dies is done again, without the files that have a record.
See docs/archive.md for the records; README.md beside this file for the options.
"""
import argparse
import ctypes
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.core import url_to_fs

VIDEOS = {"mp4", "mkv", "mov", "avi", "webm", "ts", "m2ts", "mts", "m4v", "mpg", "mpeg", "3gp", "flv", "wmv", "dav"}
PREVIEWS = {"lrv", "lrf", "thm"}
RECORD = ".done.json"
# The program's exit codes for "stopped, call again", and for options that will not get better.
STOPPED, REFUSED = 75, 2
# Seconds between two looks for files that are done.
POLL_S = 0.2


class Unusable(Exception):
    """A place that cannot be read or written, in one line."""


def reach(what, url, work):
    """The result of `work`; whatever it fails of is one line about `url`."""
    try:
        return work()
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise Unusable(f"{what} {url}: {type(error).__name__}: {reason[0] if reason else 'no reason given'}") from error


def join(url, *names):
    return "/".join([url.rstrip("/"), *names])


def find(paths, lists):
    """The files that are meant: key and URL of each. Keys are paths below the folder, or as they are given."""
    found = {}

    def add(key, url):
        if found.setdefault(key, url) != url:
            raise Unusable(f"{url}: its key {key} is that of {found[key]}; run the folders one by one")

    for path in paths:
        fs, root = reach("input", path, lambda: url_to_fs(path))
        if reach("input", path, lambda: fs.isdir(root)):
            for name in reach("input", path, lambda: fs.find(root)):
                key = name[len(root.rstrip("/")) + 1 :]
                extension = key.rpartition(".")[2].lower()
                hidden = any(part.startswith(".") for part in PurePosixPath(key).parts)
                if extension in VIDEOS and extension not in PREVIEWS and not hidden:
                    add(key, fs.unstrip_protocol(name))
            continue
        if not reach("input", path, lambda: fs.exists(root)):
            raise Unusable(f"input {path}: there is no such file or folder")
        add(root.strip("/"), fs.unstrip_protocol(root))
    for path in lists:
        for line in Path(path).read_text().splitlines():
            if line:
                fs, root = reach("input", line, lambda: url_to_fs(line))
                add(root.strip("/"), fs.unstrip_protocol(root))
    names = {}
    for key in sorted(found):
        if (other := names.setdefault(record_of(key), key)) != key:
            raise Unusable(f"{other} and {key} would have one completion record; give them results of their own")
    return found


def record_of(key):
    """The path of the completion record of a file, below the folder of the records."""
    stem, dot, extension = key.rpartition(".")
    return (stem if dot and "/" not in extension and stem and not stem.endswith("/") else key) + RECORD


def with_parent():
    """The program dies with the worker that started it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Runner:
    """An actor: takes batches of files through the program."""

    def __init__(self, options):
        self.options = options
        self.results = options["results"]
        self.fs, self.root = url_to_fs(self.results)
        self.is_local = self.fs.protocol == "file" or "file" in self.fs.protocol

    def __call__(self, batch):
        files = dict(zip(map(str, batch["key"]), map(str, batch["url"])))
        name = hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest()[:16]
        # On a shared file system any worker finds there what the one before it has left.
        place = Path(self.root, ".work", name) if self.is_local else Path(self.options["scratch"], name)
        place.mkdir(parents=True, exist_ok=True)
        log = Path(self.root, "logs", f"{name}.log") if self.is_local else place / "log"
        log.parent.mkdir(parents=True, exist_ok=True)
        records = {key: None for key in files}
        reason = None
        for attempt in range(1 + self.options["retries"]):
            self.publish_all(place, files)
            left = [key for key in files if not self.fs.exists(join(self.root, "events", record_of(key)))]
            if not left:
                break
            # One file that ends the program must not hold up the others.
            for part in [left] if attempt == 0 else [[key] for key in left]:
                code, said = self.run(place, log, {key: files[key] for key in part}, files)
                reason = said or reason
            if code == REFUSED:
                break
        for key in files:
            path = join(self.root, "events", record_of(key))
            if self.fs.exists(path):
                records[key] = json.loads(self.fs.cat_file(path))
        if all(records.values()):
            shutil.rmtree(place, ignore_errors=True)
        status = {key: record["status"] if record else "left" for key, record in records.items()}
        reasons = {key: record["reason"] if record else reason or "no reason" for key, record in records.items()}
        return {
            "key": list(files),
            "status": [status[key] for key in files],
            "reason": [reasons[key] or "" for key in files],
            "frames": [record["frames"] if record else 0 for record in records.values()],
            "events": [record["events"] if record else 0 for record in records.values()],
            "took_s": [float(record["took_s"]) if record else 0.0 for record in records.values()],
        }

    def run(self, place, log, todo, files):
        """Runs the program on `todo`: its exit code, and what went wrong, if anything did."""
        inputs = place / "in"
        shutil.rmtree(inputs, ignore_errors=True)
        missing = {}
        for key, url in todo.items():
            path = inputs / key
            path.parent.mkdir(parents=True, exist_ok=True)
            fs, source = url_to_fs(url)
            if "file" in fs.protocol:
                path.symlink_to(source)
            else:
                try:
                    fs.get_file(source, str(path))
                except Exception as error:
                    path.unlink(missing_ok=True)
                    missing[key] = f"{url}: {error}"
        command = [self.options["program"], "run", "-r", "in", "-o", "none", "--retry-failed"]
        command += [part for kind in self.options["kinds"] for part in ("-o", f"{kind}:{kind}/")]
        with open(log, "ab") as out:
            child = subprocess.Popen(
                command + self.options["extra"], cwd=place, stderr=out, stdout=out, stdin=subprocess.DEVNULL,
                preexec_fn=with_parent,
            )
            while child.poll() is None:
                time.sleep(POLL_S)
                self.publish_all(place, files)
        self.publish_all(place, files)
        if child.returncode in (0, STOPPED):
            return child.returncode, next(iter(missing.values()), None)
        return child.returncode, f"the program ended with {child.returncode}: {tail(log)}"

    def publish_all(self, place, files):
        """Moves the results of the files that are done to where they belong, the record last."""
        for key, url in files.items():
            path = place / "events" / record_of(key)
            try:
                record = json.loads(path.read_bytes())
            except (FileNotFoundError, ValueError):
                continue
            record["path"] = url
            for kind, output in sorted(record["outputs"].items()):
                source = path.parent / output
                for one in sorted(source.parent.glob(source.name)) if "*" in source.name else [source]:
                    # A worker that died here may have moved it already.
                    if one.exists():
                        self.put(one, one.resolve().relative_to(place.resolve()).as_posix())
            whole = path.with_name("." + path.name + ".part")
            whole.write_text(json.dumps(record, indent=2) + "\n")
            self.put(whole, path.relative_to(place).as_posix())
            path.unlink()

    def put(self, path, name):
        target = join(self.root, name)
        if not self.is_local:
            self.fs.put_file(str(path), target)
            path.unlink()
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        # The same file system: whole or not at all.
        os.replace(path, target)


def tail(log):
    lines = [line for line in log.read_text(errors="replace").splitlines() if "error" in line]
    return lines[-1] if lines else "see " + str(log)


def events_of(row, results):
    """The events of a file as rows of a table."""
    fs, root = url_to_fs(results)
    path = join(root, "events", record_of(row["key"]).removesuffix(RECORD) + ".jsonl")
    if not fs.exists(path):
        return []
    rows = []
    for line in fs.cat_file(path).decode().splitlines():
        event = json.loads(line)
        box = event.pop("box")
        position = event.pop("position", None) or {}
        row = {key: event.get(key, position.get(key)) for key in COLUMNS}
        rows.append({**row, **{f"box_{side}": box[side] for side in box}})
    return rows


COLUMNS = {
    "id": "string", "type": "string", "stream": "string", "track_id": "int64", "alarm": "bool", "label": "string",
    "start_s": "double", "raised_s": "double", "end_s": "double", "start_wall": "string", "end_wall": "string",
    "time_source": "string", "area_share": "double", "peak_score": "double", "severity": "double",
    "mean_confidence": "double", "nearest_class": "string", "snapshot": "string", "clip": "string",
    "latitude": "double", "longitude": "double",
}
BOX = ["x", "y", "width", "height"]


def write_parquet(keys, results):
    """All events as Parquet: one table, in files of the size that Ray Data chooses."""
    import pyarrow
    import ray

    schema = pyarrow.schema(
        [(name, kind) for name, kind in COLUMNS.items()] + [(f"box_{side}", "int64") for side in BOX]
    )

    def table(batch):
        rows = [row for key in batch["key"] for row in events_of({"key": str(key)}, results)]
        return pyarrow.Table.from_pylist(rows, schema=schema)

    fs, root = url_to_fs(results)
    target = join(root, "events.parquet")
    if fs.exists(target):
        fs.rm(target, recursive=True)
    data = ray.data.from_items([{"key": key} for key in sorted(keys)]).map_batches(table, batch_size=256)
    data.write_parquet(join(results, "events.parquet"))


def merge(program, results):
    """Joined events and the page, where the program can read the results."""
    fs, root = url_to_fs(results)
    if "file" not in fs.protocol:
        print(f"oodstream_ray: {results} is no local folder: `oodstream merge` and `report` need a copy of it")
        return 0
    for command in (
        [program, "-q", "merge", f"{root}/events", "-o", f"{root}/merged", "--overwrite"],
        [program, "-q", "report", f"{root}/events", "-o", f"{root}/review.html", "--overwrite"],
    ):
        if (code := subprocess.run(command).returncode) not in (0, 3):
            return code
    return 0


def arguments():
    about = __doc__.split("\n\n")[0]
    parser = argparse.ArgumentParser(description=about, epilog="Options of `oodstream run` follow --.")
    parser.add_argument("paths", nargs="*", help="files and folders, local or fsspec URLs (s3://, gs://)")
    parser.add_argument("--list", action="append", default=[], help="a file with one path or URL a line")
    parser.add_argument("-o", "--results", required=True, help="a folder that all machines reach, or an fsspec URL")
    parser.add_argument("--outputs", default="", help="kinds of output beside the events: snapshots,embeddings,...")
    parser.add_argument("--program", default="oodstream")
    parser.add_argument("--batch", type=int, default=16, help="files that one run of the program works on [16]")
    parser.add_argument("--actors", type=int, default=0, help="workers at a time [CPUs / --cpus]")
    parser.add_argument("--cpus", type=float, default=2, help="CPUs of a worker, and threads of the network [2]")
    parser.add_argument("--retries", type=int, default=3, help="further attempts at the files of a batch [3]")
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed in an earlier run")
    parser.add_argument("--scratch", default="/tmp/oodstream-ray", help="local folder, where the results are a URL")
    parser.add_argument("--address", help="a Ray cluster [a local one is started]")
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    options, extra = parser.parse_args(given[:end]), given[end + 1 :]
    if not options.paths and not options.list:
        parser.error("there is no input")
    return options, extra


def done_before(keys, results, retry_failed):
    """The keys that have a record."""
    fs, root = reach("results", results, lambda: url_to_fs(results))
    done = set()
    names = set(reach("results", results, lambda: fs.find(join(root, "events"))))
    for key in keys:
        path = join(root, "events", record_of(key))
        if path not in names:
            continue
        if retry_failed and json.loads(fs.cat_file(path))["status"] == "failed":
            fs.rm_file(path)
        else:
            done.add(key)
    return done


def main():
    options, extra = arguments()
    kinds = list(dict.fromkeys(["events", *filter(None, options.outputs.split(","))]))
    program = shutil.which(options.program)
    if program is None:
        raise Unusable(f"--program {options.program}: there is no such program")
    program = os.path.abspath(program)
    results = options.results if "://" in options.results else os.path.abspath(options.results)
    files = find(options.paths, options.list)
    done = done_before(files, results, options.retry_failed)
    todo = [{"key": key, "url": url} for key, url in sorted(files.items()) if key not in done]
    print(f"oodstream_ray: {len(files)} files, {len(done)} recorded, {len(todo)} to do", flush=True)

    import ray

    # A cluster of this machine alone is reached from nowhere else.
    alone = {} if options.address else {"_node_ip_address": "127.0.0.1"}
    ray.init(address=options.address, include_dashboard=False, log_to_driver=False, logging_level="error", **alone)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    statuses = {}
    if todo:
        settings = {
            "results": results,
            "program": program,
            "kinds": kinds,
            "retries": options.retries,
            "scratch": options.scratch,
            "extra": ["--threads", str(max(1, round(options.cpus))), *extra],
        }
        actors = options.actors or max(1, int(ray.cluster_resources().get("CPU", 1) // options.cpus))
        data = ray.data.from_items(todo, override_num_blocks=max(1, -(-len(todo) // options.batch)))
        rows = data.map_batches(
            Runner, fn_constructor_args=[settings], batch_size=options.batch, num_cpus=options.cpus,
            compute=ray.data.ActorPoolStrategy(size=actors),
        )
        for row in rows.iter_rows():
            statuses[row["key"]] = (row["status"], row["reason"])
            if row["status"] != "ok":
                reason = row["reason"].partition("\n")[0]
                print(f"oodstream_ray: {row['key']}: {row['status']}: {reason}", flush=True)
    write_parquet(files, results)
    code = merge(program, results)
    ended = [status for status, _ in statuses.values()]
    count = {status: ended.count(status) for status in ("ok", "damaged", "failed", "left")}
    print("oodstream_ray: " + ", ".join(f"{number} {status}" for status, number in count.items()), flush=True)
    if not count["left"] and "://" not in results:
        shutil.rmtree(os.path.join(results, ".work"), ignore_errors=True)
    return code or (1 if count["left"] else 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unusable as error:
        sys.exit(f"oodstream_ray: error: {error}")
