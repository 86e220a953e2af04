"""Parity with PyTorch: the same weights and the same batches, exchanged as safetensors, read in the file's order.

Gradients are what one step takes from the weights, in f64, against autograd's. Then the losses of 20 steps (in f64 the
trained weights too), and the outputs of inference. models.py has the models in PyTorch; convolutional.py the cases of
networks with batch norm.
"""
import pathlib
import sys

import numpy

from lib import safetensors, specs
from lib.harness import FASHION, Case, Program, check, compare_numbers, compare_tensors

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import convolutional
import dropout
import language
from files import exchange, import_torch, make_data

STEPS, BATCHES, TAIL = 20, 4, 17        # the file holds 4 batches, which 20 steps read 5 times, and 17 samples more
SPECS = {spec.name: spec for spec in specs.SPECS + [
    specs.Spec("momentum", "specs/mlp.lua", 4, True, FASHION, specs.IMAGE, "momentum=0.9", "weight_decay=0.01",
               "schedule=linear"),
    specs.Spec("clipped", "tests/equality/adamw.lua", 4, True, FASHION, specs.IMAGE, "optimizer=sgd"),
    specs.Spec("unclipped", "tests/equality/adamw.lua", 4, True, FASHION, specs.IMAGE, "clip=0"),
    specs.Spec("activations", "tests/parity/activations.lua", 1, False, "synthetic", {"x": [16]}),
    specs.Spec("rows", "tests/parity/rows.lua", 1, True, "synthetic", {"x": [16]}),
    specs.Spec("tokens", "tests/parity/tokens.lua", 1, True, "synthetic", {"x": [6]}, ids=9),
    specs.Spec("images", "tests/parity/images.lua", 1, True, "synthetic", {"x": [4, 9, 7], "steps": [4, 9, 7]})]}
HAS_LR = ("mlp", "column", "row", "pair")       # with an option for it
TOLERANCE = {"f64": 1e-9, "f32": 1e-5}
ONE, ALL = (1, 1, 1), (2, 2, 2)
OTHERS = ["residual_across_cut", "shared_weight", "two_losses", "chains", "uneven", "reuse", "attends", "gelus", "activations",
          "rows", "tokens"]


def import_models():
    torch = import_torch()
    import models
    return torch, models.MODELS


def make_weights(spec, dtype):
    """Values of our own, exact in f32, for the tensors that the program starts with."""
    program = specs.program(spec, ONE, 1, "f64")
    program.run("--data", "synthetic", "--steps", 0, "--save", program.folder / "shapes")
    start = safetensors.read(program.folder / "shapes/step_0/model.safetensors")
    random = numpy.random.default_rng(7)
    weights = {n: random.normal(n in ("gain", "scale"), 0.6 / max(w.shape[-1], 4) ** 0.5, w.shape) if n != "ones" else
               numpy.ones(w.shape) for n, w in sorted(start.items())}
    return {n: w.astype("f4").astype({"f64": "f8", "f32": "f4"}[dtype]) for n, w in weights.items()}


class Reference:
    """A model in PyTorch, in the type of the program that it is compared with."""

    def __init__(self, name, dtype="f64"):
        self.torch, models = import_models()
        self.model, self.type = models[name], {"f64": self.torch.float64, "f32": self.torch.float32}[dtype]
        self.data_path, self.data = exchange(name, lambda: make_data(self.model.shapes, BATCHES * specs.BATCH + TAIL))
        self.weights_path, weights = exchange(f"{name}-weights-{dtype}", lambda: make_weights(SPECS[name], dtype))
        self.weights = {n: self.torch.tensor(w, dtype=self.type, requires_grad=True) for n, w in weights.items()}
        self.words = ["--data", self.data_path, "--load", self.weights_path]

    def forward(self, begin=0, end=None):
        """(loss, outputs) for samples of the file."""
        tensors = {n: self.torch.from_numpy(a[begin:end]) for n, a in self.data.items()}
        batch = {n: t.long() if t.dtype == self.torch.int32 else t.to(self.type) for n, t in tensors.items()}
        return self.model.forward(self.weights, batch)

    def step(self, step):
        """The loss of a step's batch, and the gradients."""
        begin = step % BATCHES * specs.BATCH
        loss, _ = self.forward(begin, begin + specs.BATCH)
        loss.backward()
        return loss.item()

    def train(self):
        losses, optimizer = [], self.model.optimizer(self.weights)
        self.norms = []
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = self.model.rate(step, STEPS)
            optimizer.zero_grad()
            losses.append(self.step(step))
            norm = self.torch.nn.utils.clip_grad_norm_(self.weights.values(), self.model.clip or float("inf"))
            self.norms.append(norm.item())
            optimizer.step()
        return losses

    def values(self):
        return {n: w.detach().numpy() for n, w in self.weights.items()}


def gradients(name, mesh, microbatches):
    reference = Reference(name)
    rate, more = (1, ["-D", "lr=1"]) if name in HAS_LR else (reference.model.rate(0, 1), [])
    program = specs.program(SPECS[name], mesh, microbatches, "f64", *more)
    step = program.train("gradient", 1, *reference.words, "--order", "file")
    compare_numbers("loss of step", step.losses, [reference.step(0)], TOLERANCE["f64"])
    before, after, expected = reference.values(), step.weights, {}
    for n, w in reference.weights.items():
        expected[n] = w.grad.numpy() + (0 if n in reference.model.no_decay else reference.model.decay) * before[n]
        check(abs(expected[n]).max() > 1e-6, f"{n}: its gradient is almost zero")
    compare_tensors({n: (before[n] - w) / rate for n, w in after.items()}, expected, TOLERANCE["f64"])


def training(name, mesh, microbatches, dtype):
    reference = Reference(name, dtype)
    program = specs.program(SPECS[name], mesh, microbatches, dtype)
    run = program.train("parity", STEPS, *reference.words, "--order", "file")
    losses = reference.train()
    check(losses[-BATCHES] < losses[0], f"PyTorch's losses do not fall: {losses}")
    compare_numbers("loss of step", run.losses, losses, TOLERANCE[dtype])
    if reference.model.adamw or reference.model.clip:
        compare_numbers("norm of step", run.norms, reference.norms, {"f64": 1e-9, "f32": 1e-3}[dtype])
    if dtype == "f64":
        compare_tensors(run.weights, reference.values(), TOLERANCE[dtype])


def inference(name, mesh, microbatches, dtype):
    """All samples of the file: the last batch is not full."""
    reference = Reference(name, dtype)
    program = specs.program(SPECS[name], mesh, microbatches, dtype, "--mode", "infer")
    output = program.folder / "parity.safetensors"
    program.run(*reference.words, "--output", output)
    with reference.torch.no_grad():
        _, outputs = reference.forward()
    compare_tensors(safetensors.read(output), {n: o.numpy() for n, o in outputs.items()}, TOLERANCE[dtype])


def extremes(dtype):
    """Activations of large, small and equal values, each within a few units of the last place of max(1, |y|)."""
    torch, models = import_models()
    real, tolerance = {"f64": ("f8", 1e-15), "f32": ("f4", 1e-6)}[dtype]
    ends = numpy.array([0, 1e-30, 1e-8, 1e-4, 0.5, 3, 5.5, 9, 20, 60, 89, 300, 750, 1e4, 1e15, 1e30])
    rows = [ends, -ends, numpy.full(16, 1e30), numpy.full(16, -1e4), ends[::-1] - 750]
    x = numpy.concatenate([rows, numpy.linspace(-12, 12, 59 * 16).reshape(59, 16)]).astype(real)
    program = Program(SPECS["activations"].path, "--mesh", "1", "--dtype", dtype, "--mode", "infer")
    data, _ = exchange(f"extremes-{dtype}", lambda: {"x": x, "y": x})
    weights, _ = exchange(f"extremes-weights-{dtype}", lambda: {"gain": numpy.ones(16, real)})
    program.run("--data", data, "--load", weights, "--output", program.folder / "extremes.safetensors")
    computed = safetensors.read(program.folder / "extremes.safetensors")
    _, expected = models["activations"].forward({"gain": torch.ones(16)}, {"x": torch.from_numpy(x), "y": torch.zeros(1)})
    check(sorted(computed) == sorted(expected), f"outputs {sorted(computed)}, not {sorted(expected)}")
    for name, y in expected.items():
        y = y.numpy()
        error = abs(computed[name] - y) / numpy.maximum(1, abs(y))
        worst = numpy.unravel_index(error.argmax(), error.shape)        # a nan is the largest
        check(error[worst] < tolerance, f"{name} of {x[worst]!r}: {computed[name][worst]!r}, not {y[worst]!r}")


def cases(long):
    """Names say the mesh when it is not one device."""
    columns = [(name, (1, tp, 1), 1) for name in ("column", "row", "pair") for tp in ((1, 2, 4) if long else (2, 4))]
    mlps = [("mlp", ONE, 1), ("mlp", ALL, 4)]
    others = [(name, ONE, 2) for name in OTHERS]
    images = [("images", ONE, 1), ("images", (2, 1, 1), 2), ("images", (1, 2, 1), 1), ("images", (1, 3, 1), 2)]
    momentums = [("momentum", ONE, 2), ("momentum", ALL, 4)]
    adamws = [("adamw", ONE, 2), ("adamw", ALL, 4), ("adamw", (1, 3, 1), 1), ("clipped", ONE, 2), ("clipped", (1, 2, 2), 2),
               ("unclipped", ONE, 1)]
    trained = mlps + momentums + [("pair", (1, 2, 1), 2)] + others + adamws
    short = [("two_losses", ONE, 2), ("pair", (1, 4, 1), 1), *mlps, *momentums, adamws[0]]
    found = [("gradients", gradients, row) for row in mlps + columns + others + images + [("rows", (2, 1, 1), 2), ("tokens", (1, 2, 1), 1), ("tokens", (2, 2, 1), 2)]]
    found += [("training", training, (*row, "f64")) for row in trained]
    found += [("training", training, (*row, "f32")) for row in (trained if long else short)]
    found += [("inference", inference, (*row, "f64")) for row in mlps + columns + others + images]
    found += [("inference", inference, (*row, "f32")) for row in (mlps + columns + others + images if long else mlps + images[:1])]
    named = []
    for kind, run, (name, mesh, *more) in found:
        parts = [kind, name, *([specs.mesh_text(mesh)] if mesh != ONE else []), *more[1:]]
        named.append(Case("-".join(parts), run, name, mesh, *more))
    named += [Case(f"extremes-{dtype}", extremes, dtype) for dtype in TOLERANCE]
    return named + convolutional.cases(long) + dropout.cases(long) + language.cases(long)
