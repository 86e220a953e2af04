# make.py FOLDER: writes a checkpoint of a small convolutional model with a writer of its own, in PyTorch's names, order
# and types; filters_test.c loads it on several meshes and saves it again, check.py compares. Run by run.sh.
import json
import os
import struct
import sys

import numpy

TYPES = {"float32": "F32", "float64": "F64", "int64": "I64"}


def numbered(shape, start, kind="float32"):
    """Element [a, b, c, d] is start + 1000 a + 100 b + 10 c + d, so that every place can be told from its number."""
    index = numpy.indices(shape)
    return (start + sum(10 ** (3 - k) * index[k] for k in range(len(shape)))).astype(kind)


def write(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        begin = len(data)
        data += numpy.asarray(values).tobytes()
        header[name] = {"dtype": TYPES[str(values.dtype)], "shape": list(values.shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


def checksum(path):
    words = numpy.fromfile(path, "<u4").astype(numpy.uint64)
    with numpy.errstate(over="ignore"):
        x = numpy.arange(1, len(words) + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15) ^ words
        x = (x ^ x >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
        return int((x ^ x >> numpy.uint64(31)).sum(dtype=numpy.uint64))


MODEL = {
    "conv1.weight": numbered((7, 5, 3, 2), 0.5),
    "conv2.weight": numbered((3, 7, 5, 5), 10000.5, "float64"),
    "conv3.weight": numbered((4, 6, 1, 1), 20000.5),
    "bn1.running_mean": numbered((7,), 0.25),
    "bn1.num_batches_tracked": numpy.array(1234567, "int64"),
    "bn2.counts": numbered((5, 3), -2000, "int64"),
}
OPTIMIZER = {
    "conv1.weight.momentum": numbered((7, 5, 3, 2), -5000.5),
    "conv2.weight.momentum": numbered((3, 7, 5, 5), -10000.5, "float64"),
    "conv3.weight.momentum": numbered((4, 6, 1, 1), -20000.5),
}

if __name__ == "__main__":
    step = os.path.join(sys.argv[1], "python", "step_5")
    os.makedirs(step)
    files = {}
    for name, tensors in (("model.safetensors", MODEL), ("optimizer.safetensors", OPTIMIZER)):
        path = os.path.join(step, name)
        write(path, tensors)
        files[name] = {"bytes": os.path.getsize(path), "checksum": checksum(path)}
    with open(os.path.join(step, "state.json"), "w") as out:
        json.dump({"step": 5, "seed": 9, "files": files}, out)
