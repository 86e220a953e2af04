"""Parity with PyTorch: the same weights and the same batches, exchanged as safetensors, read in the file's order.

Gradients are what one step takes from the weights, in f64, against autograd's. Then 20 steps of training, and the
outputs of inference.
"""
import sys

import numpy

from lib import safetensors, specs
from lib.harness import WORK, Case, Skip, check, compare_numbers, compare_tensors, locked

STEPS, MICROBATCHES = 20, 2
SPECS = {spec.name: spec for spec in specs.SPECS}
ONE = (1, 1, 1)


def torch_models():
    sys.path.insert(0, str(__file__).rsplit("/", 1)[0])
    try:
        import torch
        import models
    except ImportError as missing:
        raise Skip(f"{missing}: Debian's python3-torch is not installed")
    torch.set_num_threads(1)
    return torch, models.MODELS


def data_file(name, shapes):
    """20 batches; a label of -1, in the data of classes, is one that does not count."""
    path = WORK / "data" / f"parity-{name}.safetensors"
    with locked(path.with_suffix(".lock")):
        random, samples = numpy.random.default_rng(11), STEPS * specs.BATCH
        tensors = {}
        for input, shape in shapes.items():
            if isinstance(shape, int):
                tensors[input] = random.integers(0, shape, samples, dtype="i4")
            else:
                tensors[input] = random.random([samples, *shape], "f4")
        safetensors.write(path, tensors)
    return path, tensors


def weights_file(name, dtype):
    """Weights of our own, for the shapes that the program starts with."""
    program = specs.program(SPECS[name], ONE, MICROBATCHES, "f64")
    path = WORK / "data" / f"weights-{name}-{dtype}.safetensors"
    with locked(path.with_suffix(".lock")):
        program.run("--data", "synthetic", "--steps", 0, "--save", program.folder / "shapes")
        start = safetensors.read(program.folder / "shapes/step_0/model.safetensors")
        random = numpy.random.default_rng(7)
        weights = {n: random.normal(n in ("gain", "scale"), 0.6 / max(w.shape[-1], 4) ** 0.5, w.shape)
                   for n, w in sorted(start.items())}
        weights = {n: w.astype("f4").astype("f8" if dtype == "f64" else "f4") for n, w in weights.items()}
        safetensors.write(path, weights)
    return path, weights


class Reference:
    """The model in PyTorch, in double precision unless dtype says otherwise."""

    def __init__(self, name, dtype="f64"):
        self.torch, models = torch_models()
        self.model, self.type = models[name], getattr(self.torch, {"f64": "float64", "f32": "float32"}[dtype])
        self.data_path, self.data = data_file(name, self.model.shapes)
        self.weights_path, weights = weights_file(name, dtype)
        self.weights = {n: self.torch.tensor(w, dtype=self.type, requires_grad=True) for n, w in weights.items()}

    def batch(self, begin, end):
        tensors = {n: self.torch.from_numpy(a[begin:end]) for n, a in self.data.items()}
        return {n: a.long() if a.dtype == self.torch.int32 else a.to(self.type) for n, a in tensors.items()}

    def train(self, steps):
        losses, optimizer = [], self.model.optimizer(self.weights)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = self.model.rate(step, steps)
            optimizer.zero_grad()
            loss, outputs = self.model.forward(self.weights, self.batch(step * specs.BATCH, (step + 1) * specs.BATCH))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def trained(self):
        return {n: w.detach().numpy() for n, w in self.weights.items()}

    def words(self):
        return ["--data", self.data_path, "--order", "file", "--load", self.weights_path]


def gradients(name, mesh=ONE):
    reference = Reference(name)
    more = ["-D", "lr=1"] if name in ("mlp", "column", "row", "pair") else []
    program = specs.program(SPECS[name], mesh, MICROBATCHES, "f64", *more)
    step = program.train("gradient", 1, *reference.words())
    rate = 1 if more else reference.model.rate(0, 1)
    loss, outputs = reference.model.forward(reference.weights, reference.batch(0, specs.BATCH))
    loss.backward()
    compare_numbers("loss of step", step.losses, [loss.item()], 1e-9)
    before, after, expected, computed = reference.trained(), step.weights, {}, {}
    for n, w in reference.weights.items():
        decay = 0 if n in reference.model.no_decay else reference.model.decay
        expected[n] = w.grad.numpy() + decay * before[n]
        computed[n] = (before[n] - after[n]) / rate
        check(abs(expected[n]).max() > 0, f"{n}: its gradient is zero")
    compare_tensors(computed, expected, 1e-9)


def training(name, mesh, dtype):
    reference = Reference(name, dtype)
    program = specs.program(SPECS[name], mesh, MICROBATCHES, dtype)
    run = program.train(f"parity", STEPS, *reference.words())
    losses = reference.train(STEPS)
    compare_numbers("loss of step", run.losses, losses, {"f64": 1e-9, "f32": 1e-5}[dtype])
    if dtype == "f64":
        compare_tensors(run.weights, reference.trained(), 1e-9)


def inference(name, mesh, dtype):
    reference = Reference(name, dtype)
    program = specs.program(SPECS[name], mesh, MICROBATCHES, dtype, "--mode", "infer")
    output = program.folder / "parity.safetensors"
    program.run("--data", reference.data_path, "--load", reference.weights_path, "--steps", 3, "--output", output)
    with reference.torch.no_grad():
        loss, outputs = reference.model.forward(reference.weights, reference.batch(0, 3 * specs.BATCH))
    compare_tensors(safetensors.read(output), {n: o.numpy() for n, o in outputs.items()}, {"f64": 1e-9, "f32": 2e-5}[dtype])


def cases(long):
    names = ["mlp", "momentum", "column", "row", "pair", "residual_across_cut", "shared_weight", "two_losses", "chains",
             "uneven", "reuse"]
    found = [Case(f"gradients-{name}", gradients, name) for name in names if name != "momentum"]
    found += [Case("gradients-mlp-dp=2,tp=2,pp=2", gradients, "mlp", (2, 2, 2))]
    found += [Case(f"training-{name}-f64", training, name, ONE, "f64") for name in names]
    found += [Case(f"training-{name}-f32", training, name, ONE, "f32") for name in ("mlp", "momentum", "pair", "two_losses")]
    found += [Case("training-momentum-f64-dp=2,tp=2,pp=2", training, "momentum", (2, 2, 2), "f64")]
    found += [Case(f"inference-{name}", inference, name, ONE, "f64") for name in names if name != "momentum"]
    return found + [Case("inference-mlp-f32-pp=2", inference, "mlp", (1, 1, 2), "f32"),
                    Case("inference-column-tp=4", inference, "column", (1, 4, 1), "f64")]
