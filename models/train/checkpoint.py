"""Checkpoints that are either whole or refused: magic, SHA-256 of the payload, payload; written aside, then renamed."""

import hashlib
import io
import os
from pathlib import Path

import torch

MAGIC = b"OODSTRM1"


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line."""


def save(path, state):
    """Write `state` (tensors, numbers, strings, dicts, lists) to `path` in one step: a reader sees the old or the new."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path = Path(path)
    aside = path.with_name(path.name + ".part")
    with open(aside, "wb") as file:
        file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def load(path):
    """Read what `save` wrote; a cut or changed file is a `CheckpointError`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    digest, payload = data[8:40], data[40:]
    if data[:8] != MAGIC or hashlib.sha256(payload).digest() != digest:
        raise CheckpointError(f"{path}: not a whole checkpoint (cut short or changed); delete it to start anew")
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
