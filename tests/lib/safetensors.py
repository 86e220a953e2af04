"""A reader and a writer of safetensors files, independent of the runtime's."""
import json
import os
import struct

import numpy

TYPES = {"F64": numpy.dtype("<f8"), "F32": numpy.dtype("<f4"), "F16": numpy.dtype("<f2"), "I32": numpy.dtype("<i4"), "I64": numpy.dtype("<i8")}


def read(path):
    """{name: array} of a file."""
    data = open(path, "rb").read()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[8 + size + begin:8 + size + end], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).copy()
    return tensors


def rounded(array, kind):
    """The values of an f32 array that F16 or BF16 has for it: to nearest, ties to even."""
    if kind == "F16":
        return array.astype("<f2").astype("<f4")
    words = array.astype("<f4").view("<u4").astype("<u8")
    return ((words + 0x7FFF + (words >> 16 & 1)) & 0xFFFF0000).astype("<u4").view("<f4")


def write(path, tensors, bf16=False):
    """Writes {name: array}; names in order, no padding but the header's. bf16: values that `rounded` gave, as BF16."""
    header, blobs, offset = {}, [], 0
    for name in sorted(tensors):
        array = numpy.asarray(tensors[name])
        (kind,) = ["BF16"] if bf16 else [k for k, v in TYPES.items() if v == array.dtype]
        blob = (array.view("<u4") >> 16).astype("<u2").tobytes() if bf16 else array.tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # A program may be reading the file that was there: it keeps that one.
    own = f"{path}.{os.getpid()}"
    with open(own, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    os.replace(own, path)
