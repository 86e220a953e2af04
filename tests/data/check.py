# check.py FOLDER: reads the files that the C tests left there with a reader of its own, so that writer and reader
# cannot share a misunderstanding of the format. Run by run.sh.
import json
import os
import struct
import sys

import numpy

import make

TYPES = {"F64": "<f8", "F32": "<f4", "I32": "<i4", "I64": "<i8"}


def read(path):
    data = open(path, "rb").read()
    (size,) = struct.unpack("<Q", data[:8])
    assert size % 8 == 0 and data[8:9] == b"{", path
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    assert all(isinstance(v, str) for v in metadata.values()), path
    tensors, end = {}, 0
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = t["data_offsets"]
        assert begin == end, (path, name)
        end = stop
        values = numpy.frombuffer(data[8 + size + begin:8 + size + stop], TYPES[t["dtype"]])
        tensors[name] = values.reshape(t["shape"])
    assert 8 + size + end == len(data), path
    return tensors


folder = sys.argv[1]
out = read(os.path.join(folder, "out.safetensors"))
assert (out["class"] == numpy.arange(29)).all()
assert (out["logits"] == numpy.arange(29)[:, None] * 10 + numpy.arange(5)).all()

step = os.path.join(folder, "mesh4", "step_3")
model, optimizer = read(step + "/model.safetensors"), read(step + "/optimizer.safetensors")
state = json.load(open(step + "/state.json"))
assert state["step"] == 3 and state["seed"] == 11
for name, described in state["files"].items():
    assert os.path.getsize(os.path.join(step, name)) == described["bytes"]
shapes = {"rows": (7, 5), "columns": (5, 7), "middle": (3, 5, 4), "nested": (3, 5, 2, 7), "shared": (11,), "bias": (9,),
          "large": (1201, 1003), "filters": (7, 5, 3, 2), "pixels": (2, 3, 7, 5), "many": (151, 101, 7, 5), "mean": (9,),
          "batches": (), "counts": (3, 7), "q": (24, 5), "k": (12, 5), "v": (12, 5), "c_attn": (6, 60), "c_attn.bias": (60,),
          "gate": (7, 5), "up": (7, 5), "wte": (13, 3), "wide": (1003, 607)}
assert {name: t.shape for name, t in model.items()} == shapes
assert model["batches"] == -3 and model["batches"].dtype == model["counts"].dtype == numpy.int64 and (model["mean"] == 0.25).all()
assert model["counts"].min() < -10 ** 9 and model["counts"].max() > 10 ** 9
assert (model["bias"] == 0.5).all() and optimizer["scalar"] == 42 and optimizer["scalar"].shape == ()
assert -1 <= model["rows"].min() and model["rows"].max() < 1 and abs(model["large"].mean() - 0.5) < 1e-3
assert len(numpy.unique(model["large"])) > 0.9 * model["large"].size
for k in range(6):  # what filters_test.c loaded from make.py's files on each mesh
    for name, tensors in ("model", make.MODEL), ("optimizer", make.OPTIMIZER):
        saved = read(os.path.join(folder, f"filters{k}", "step_5", name + ".safetensors"))
        assert saved.keys() == tensors.keys(), (k, name)
        for key, values in tensors.items():
            same = saved[key].dtype == values.dtype and saved[key].shape == values.shape and (saved[key] == values).all()
            assert same, (k, key)
print("check.py: the files read back")
