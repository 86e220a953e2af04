"""What the cases of parity exchange with programs: data and weights as safetensors files."""
import sys

import numpy

from lib import safetensors, specs
from lib.harness import WORK, Skip, locked


def import_torch():
    """PyTorch; a case that needs it is skipped where it is missing."""
    try:
        import torch
    except ImportError as missing:
        raise Skip(f"{missing}: Debian's python3-torch is not installed")
    torch.set_num_threads(1)
    return torch


def make_data(shapes, samples, ignored=16):
    """Values around the centre of each sample's class, so that losses fall; whole numbers in an input called steps. A fifth
    of the labels is -1, which does not count; so are the first ones, all that a micro-batch has. A shape of (9, 6) stands for 6
    ids below 9 that count up, or for labels where the input is called y."""
    random = numpy.random.default_rng(11)
    classes = min([shape for shape in shapes.values() if isinstance(shape, int)], default=10)
    kind, tensors = random.integers(0, classes, samples, dtype="i4"), {}
    for name, shape in shapes.items():
        if isinstance(shape, int):
            tensors[name] = numpy.where(random.random(samples) < 0.2, -1, kind).astype("i4")
            tensors[name][:ignored] = -1
        elif isinstance(shape, tuple):
            limit, length = shape
            tensors[name] = ((kind[:, None] + numpy.arange(length)) % limit).astype("i4")
            if name == "y":
                tensors[name][random.random([samples, length]) < 0.2] = -1
                tensors[name][:ignored] = -1
        else:
            tensors[name] = 0.7 * random.random([classes, *shape], "f4")[kind] + 0.3 * random.random([samples, *shape], "f4")
            if name == "steps":
                tensors[name] = numpy.round(3 * tensors[name])
    return tensors


def exchange(name, make):
    """(path, {name: array}) of a file. Cases that use the same one each make it, and one may be reading it."""
    path = WORK / "data" / f"parity-{name}.safetensors"
    with locked(path.with_suffix(".lock")):
        tensors = make()
        safetensors.write(path.with_suffix(".new"), tensors)
        path.with_suffix(".new").rename(path)
    return path, tensors
