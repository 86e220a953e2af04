"""Gradients against central finite differences, in f64 on the host: one spec, NAME.lua, for each op of
gen/graph/ops.def that has a gradient.

The gradient is what one step of SGD with learning rate 1 takes from the weights; the differences are losses of runs
that --load weights with one element moved.
"""
import json
import re

import numpy

from lib import safetensors
from lib.harness import ROOT, Case, Program, check, mpgen

HERE = ROOT / "tests/gradients"
MOVE, TOLERANCE = 1e-5, 1e-6
# Gradients of ops that no spec can ask for, and why.
UNREACHABLE = {"expand": "is in backward graphs only"}


def loss_with(program, weights):
    path = program.folder / "moved.safetensors"
    safetensors.write(path, weights)
    log = program.folder / "moved.log"
    program.run("--data", "synthetic", "--order", "file", "--steps", 1, "--load", path, "--log", log)
    return json.loads(log.read_text().splitlines()[0])["loss"]


def difference(program, weights, name, i):
    losses = []
    for move in (MOVE, -MOVE):
        moved = {n: tensor.copy() for n, tensor in weights.items()}
        moved[name].flat[i] += move
        losses.append(loss_with(program, moved))
    return (losses[0] - losses[1]) / (2 * MOVE)


def gradient(spec):
    program = Program(spec, "--dtype", "f64", "--mesh", "1")
    words = ["--data", "synthetic", "--order", "file"]
    program.run(*words, "--steps", 0, "--save", program.folder / "start")
    before = safetensors.read(program.folder / "start/step_0/model.safetensors")
    after = program.train("step", 1, *words, "--load", program.folder / "start").weights
    for name, tensor in before.items():
        computed = tensor - after[name]
        largest = abs(computed).max()
        check(largest > 1e-6, f"{name}: the gradient is zero everywhere: nothing is compared")
        expected = numpy.array([difference(program, before, name, i) for i in range(tensor.size)])
        error = abs(computed.flatten() - expected).max() / largest
        check(error < TOLERANCE, f"{name}: relative error {error:.2g}; computed {computed.flatten()[:6]}, differences "
              f"{expected[:6]}")


def every_op_has_a_spec():
    table = (ROOT / "gen/graph/ops.def").read_text()
    rows = re.findall(r'^OP\(\w+,\s*"(\w+)",\s*\w+,\s*(\w+),', table, re.M)
    check(len(rows) > 20, "ops.def was not understood")
    for op, rule in rows:
        if rule == "none" or op in UNREACHABLE:
            continue
        spec = HERE / f"{op}.lua"
        check(spec.exists(), f"no tests/gradients/{op}.lua for {op}")
        check(re.search(rf" = {op}\b", mpgen(spec, "--dump", "spec").stdout, re.M), f"{op}.lua has no node {op}")


def cases(long):
    return [Case("every-op", every_op_has_a_spec)] + [Case(s.stem, gradient, s) for s in sorted(HERE.glob("*.lua"))]
