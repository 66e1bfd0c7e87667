"""The sets of labelled road frames that the default network is trained on: one function per set.

Each function takes the set's folder and gives `Frames` whose labels are label ids of `data.py`: a class, a coarse label
that leaves several classes open, or void. No set may hold an image of an unknown thing.
"""

from pathlib import Path

import numpy as np

from data import CLASSES, VOID, DataError, Frames, label_id
from people import people_masks


def table(**ids):
    """[256] u8: raw label value to label id, from `v3="road"` or `v5="tree|terrain"`; all other values are void."""
    mapping = np.full(256, VOID, np.uint8)
    for value, names in ids.items():
        mapping[int(value[1:])] = label_id(*names.split("|"))
    return mapping


CAMVID = table(v0="sky", v1="building", v2="pole", v3="road", v4="pavement", v5="tree|terrain", v6="sign", v7="fence",
               v8="car", v9="pedestrian", v10="bicyclist")
# "Not drivable" is pavement or verge; "roadside object" takes in kerbs and walls; "vehicle" the machines of riders.
IDD_LITE = table(v0="road", v1="pavement|terrain", v2="pedestrian|bicyclist", v3="car|bicyclist",
                 v4="building|pole|pavement|sign|fence", v5="building|tree|terrain", v6="sky")
IDD_LIVING = 2
LABELMEFACADE = table(v0="sky", v1="building", v3="road", v4="pavement", v5="tree|terrain", v8="car")
# Puddles, obstacles and background (which is also the own bonnet) are left out.
OFFROAD = table(v1="road", v2="terrain", v3="road", v6="tree|terrain", v7="tree", v8="sky")
OWN = table(**{f"v{i}": name for i, name in enumerate(CLASSES)})


def split_of(folder, split):
    """The folder of a split of a set."""
    if not (folder / split).is_dir():
        raise DataError(f"{folder / split}: no such folder")
    return folder / split


def camvid(folder, split, teacher):
    """CamVid in the SegNet split. Its tree class takes in grass."""
    return Frames.read(split_of(folder, split), CAMVID)


def idd_lite(folder, split, teacher):
    """IDD lite. Of "living", which is people, riders and animals, only what the teacher takes for people is kept."""
    frames = Frames.read(split_of(folder, split), IDD_LITE)
    raw = Frames.read(split_of(folder, split), np.arange(256, dtype=np.uint8), images=False)
    living = [label == IDD_LIVING for label in raw.labels]
    for label, alive, people in zip(frames.labels, living, people_masks(frames.images, living, teacher)):
        label[alive & ~people] = VOID
    return frames


def labelmefacade(folder, split, teacher):
    """LabelMeFacade, which has no splits: all of it is for training."""
    return only_train(folder, split, LABELMEFACADE)


def offroad(folder, split, teacher):
    """Tracks and lanes; no splits."""
    return only_train(folder, split, OFFROAD)


def rendered(folder, split, teacher):
    """Streets of samples/generate, with CamVid's ids."""
    return Frames.read(split_of(folder, split), CAMVID)


def own(folder, split, teacher):
    """Frames of one's own, labelled with the indices of `CLASSES`, 255 void."""
    return Frames.read(split_of(folder, split), OWN)


def only_train(folder, split, mapping):
    if split != "train":
        raise DataError(f"{folder}: has no {split} split")
    return Frames.read(folder, mapping)


SOURCES = {f.__name__: f for f in (camvid, idd_lite, labelmefacade, offroad, rendered, own)}
# Share of the crops that each set gives.
DEFAULT = {"camvid": 0.48, "idd_lite": 0.24, "labelmefacade": 0.13, "offroad": 0.07, "rendered": 0.08}


def parse(text):
    """{name: share} of `camvid=0.5,own=0.5`; the shares add up to 1."""
    shares = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = float("nan")
        if name not in SOURCES or not equals or not 0 < share < float("inf"):
            raise DataError(f"source {part!r}: want NAME=SHARE with a share above 0 and a name of {', '.join(SOURCES)}")
        if name in shares:
            raise DataError(f"source {name}: given twice")
        shares[name] = share
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def names(text):
    """The sources of `camvid,own`, in this order."""
    return list(parse(",".join(f"{name}=1" for name in text.split(","))))


def photographs(names):
    """Those of some sources that are photographs; all of them where none is. How a rendering looks is no kind of the
    ordinary in front of a camera."""
    return [name for name in names if name != "rendered"] or list(names)


def load(name, data, split="train", teacher=None):
    """The frames of a split of a set in DATA/NAME."""
    folder = Path(data) / name
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return SOURCES[name](folder, split, teacher)
