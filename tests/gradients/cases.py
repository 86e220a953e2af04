"""Gradients against central finite differences, in f64 on the host.

The gradient is what one step of SGD with learning rate 1 takes from the weights. The differences are of the losses of
runs that --load moved weights: one element moved, for some elements of each parameter, and all elements of a parameter
moved at once, up or down by chance, so that none is left out. Every spec here is a case; together they have every op
of gen/graph/ops.def that has a gradient.
"""
import json
import re

import numpy

from lib import safetensors
from lib.harness import ROOT, Case, Program, check, mpgen

HERE = ROOT / "tests/gradients"
SPECS = sorted(HERE.glob("*.lua"))
MOVE, TOLERANCE = 1e-5, 1e-6
LEAST_GRADIENT = 1e-3           # of a parameter's largest element, so that there is something to compare
ELEMENTS = 4                    # of each parameter, moved one at a time
MESHES = ["1", "dp=2", "pp=2", "pp=3"]
BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")         # a step changes them, not by a gradient
SHORT = {"penalty": ["dp=2"], "cross_entropy": ["dp=2"], "shared": ["pp=2"], "fan_out": ["pp=3"],
         "batch_norm2d": ["dp=2"], "dropout": ["dp=2"], "attention_dropout": ["dp=2"], "layer_norm": ["dp=2"], "rope": ["dp=2"],
         "embedding": ["dp=2", "pp=2"], "linear_cross_entropy": ["dp=2", "pp=2"]}   # beside mesh 1


def dump(spec):
    """The graph that a spec describes, with its images in order: {name: (type, shape, op, attributes)}."""
    line = r"^  ([^\s:,]+)[^:\n]*: (\w+)\[([\d,]*)\].* = (\w+)( .*)?\("
    text = mpgen(spec, "--dump", "layout").stdout
    rows = {n: (t, [int(e) for e in s.split(",") if e], o, a) for n, t, s, o, a in re.findall(line, text, re.M)}
    check(len(rows) > 5, "what mpgen --dump spec printed was not understood")
    return rows


def data_file(spec, path):
    """One batch: values from a normal distribution, and labels of few classes, about a third of them ignored (-1). All
    those of the first samples are, so that a micro-batch and a replica have none."""
    random, tensors = numpy.random.default_rng(3), {}
    for name, (kind, shape, op, _) in dump(spec).items():
        if name == "random_key":        # not the spec's
            continue
        if op == "input" and kind == "i32":
            labels = random.integers(0, 3, shape, dtype="i4")
            labels[random.random(shape) < 0.2] = -1
            labels[:shape[0] // 4] = -1
            tensors[name] = labels
        elif op == "input":
            tensors[name] = random.normal(size=shape)
    safetensors.write(path, tensors)


class Losses:
    """Losses of the program for given weights."""

    def __init__(self, program, words):
        self.program, self.words = program, words

    def __call__(self, weights):
        path, log = self.program.folder / "moved.safetensors", self.program.folder / "moved.log"
        safetensors.write(path, weights)
        self.program.run(*self.words, "--steps", 1, "--load", path, "--log", log)
        return json.loads(log.read_text().splitlines()[0])["loss"]

    def slope(self, weights, name, direction):
        """The derivative by moving the parameter in a direction."""
        up, down = (self({**weights, name: weights[name] + sign * MOVE * direction}) for sign in (1, -1))
        return (up - down) / (2 * MOVE)


def compare(losses, weights, name, gradient):
    random, largest = numpy.random.default_rng(len(name)), abs(gradient).max()
    if name.startswith("unreached"):  # the loss does not depend on it
        check(largest == 0, f"{name}: the loss does not depend on it, but its gradient is {largest:.2g}")
        check(losses.slope(weights, name, numpy.ones_like(gradient)) == 0, f"{name}: the loss depends on it")
        return
    check(largest > LEAST_GRADIENT, f"{name}: its largest gradient is {largest:.2g}: too small to compare")
    directions = {"all": random.choice([-1.0, 1.0], gradient.shape)}
    chosen = random.permutation(gradient.size)[:ELEMENTS - 1]
    for i in {int(abs(gradient).argmax()), *map(int, chosen)}:
        directions[i] = numpy.zeros(gradient.shape)
        directions[i].flat[i] = 1
    for which, direction in directions.items():
        expected, actual = losses.slope(weights, name, direction), (gradient * direction).sum()
        error = abs(actual - expected) / largest
        check(error < TOLERANCE, f"{name}[{which}]: gradient {actual!r}, differences {expected!r}: {error:.2g} of the "
              f"largest element > {TOLERANCE:g}")


def gradient(spec, mesh):
    program = Program(spec, "--dtype", "f64", "--mesh", mesh)
    data = program.folder / "data.safetensors"
    data_file(spec, data)
    words = ["--data", data, "--order", "file"]
    program.run(*words, "--steps", 0, "--save", program.folder / "start")
    before = safetensors.read(program.folder / "start/step_0/model.safetensors")
    after = program.train("step", 1, *words, "--load", program.folder / "start").weights
    check(len(before) > 1 and sorted(before) == sorted(after), f"parameters {sorted(before)}, then {sorted(after)}")
    losses = Losses(program, words)
    for name, tensor in before.items():
        if not name.endswith(BUFFERS):
            compare(losses, before, name, tensor - after[name])


def every_op():
    """The specs' forward passes have every op with a gradient, and matmul in both forms."""
    table = (ROOT / "gen/graph/ops.def").read_text()
    rows = re.findall(r'^(?:IMAGE_)?OP\(\w+,\s*"(\w+)",\s*\w+,\s*(\w+),', table, re.M)
    check(len(rows) == len(re.findall(r"^(?:IMAGE_)?OP\(", table, re.M)) > 20, "ops.def was not understood")
    nodes = [node for spec in SPECS for node in dump(spec).values()]
    of_bf16 = {"cast"}                  # between types of which one is not exact: tests/bf16
    missing = {op for op, rule in rows if rule != "none"} - {op for _, _, op, _ in nodes} - of_bf16
    check(not missing, f"no spec in tests/gradients has {', '.join(sorted(missing))}")
    forms = {attributes.strip() for _, _, op, attributes in nodes if op == "matmul"}
    check(forms == {"nn", "nt"}, f"matmul as {sorted(forms)} only, not nn and nt")


def cases(long):
    found = [Case("every-op", every_op)]
    for spec in SPECS:
        meshes = MESHES[:2 + spec.read_text().count("mp.cut()")] if long else ["1", *SHORT.get(spec.stem, [])]
        for mesh in meshes:
            found.append(Case(spec.stem if mesh == "1" else f"{spec.stem}-{mesh}", gradient, spec, mesh))
    return found
