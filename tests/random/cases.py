"""Random models on random meshes: the plan must compute what one device computes (f64, 1e-9).

A model is drawn from a seed: layers with and without shards, element-wise ops, reductions, reshapes, residuals over any
distance, shared weights, cuts anywhere, several losses; models of images are those of image_models.py. What mpgen
refuses, it must refuse with its exit status for mistakes in a spec or a mesh, never crash.
"""
import pathlib
import random
import sys

import numpy

from lib import safetensors
from lib.harness import WORK, Case, Failure, Program, check, compare_numbers, compare_tensors, mpgen

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from image_models import ImageModel

STEPS = 5
ROUNDED = 1e-12     # of a bias with a batch norm behind it, which takes it away: its gradient is what rounding leaves
WIDTHS = (6, 8, 10, 12)


class Model:
    sync, evaluates = True, False   # no batch norm

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.lines, self.tensors, self.shared = [], [("t.image", 784)], {}
        self.count = 0

    def fresh(self, text, width):
        name = f"v{self.count}"
        self.count += 1
        self.lines.append(f"  local {name} = {text}")
        self.tensors.append((name, width))

    def any(self, width=None):
        """A tensor, mostly a recent one; not the image where it would be added."""
        some = [t for t in self.tensors if t[1] != 784 and (width is None or t[1] == width)]
        return self.draw.choice(some[-3:] if some and self.draw.random() < 0.7 else some) if some else None

    def linear(self):
        d = self.draw
        name, width = self.any() or ("t.image", 784)
        if d.random() < 0.1:
            name, width = "t.image", 784
        out = d.choice(WIDTHS)
        extra = []
        if d.random() < 0.7:
            extra.append(f'shard = "{d.choice(["column", "row"])}"')
        if d.random() < 0.2:
            extra.append("bias = false")
        if (width, out) in self.shared and d.random() < 0.5:
            extra = [f"weight = {self.shared[width, out]}"]
        elif d.random() < 0.15 and width != 784:
            weight = f"w{self.count}"
            self.lines.append(f'  local {weight} = mp.parameter("{weight}", {{ {out}, {width} }}, mp.uniform(-0.4, 0.4))')
            self.shared[width, out] = weight
            extra = [f"weight = {weight}"]
        self.fresh(f'nn.linear("l{self.count}", {name}, {out}, {{ {", ".join(extra)} }})', out)

    def unary(self):
        name, width = self.any()
        self.fresh(self.draw.choice(["mp.relu({})", "mp.gelu({})", 'mp.gelu({}, "tanh")', "mp.softmax({})", "mp.scale({}, 0.7)", "{} + 0.5", "-{}"]).format(name), width)

    def binary(self):
        name, width = self.any()
        other, _ = self.any(width)
        op = self.draw.choice(["{} + {}", "{} - {}", "{} * {}", "{} / ({} * {} + 2)"])
        self.fresh(op.format(name, other, other), width)

    def vector(self):
        name, width = self.any()
        op = self.draw.choice("+-*")
        self.lines.append(f'  local p{self.count} = mp.parameter("p{self.count}", {{ {width} }}, mp.uniform(0.5, 1.5))')
        self.fresh(f"{name} {op} p{self.count}", width)

    def fold(self):
        name, width = self.any()
        if width % 2:
            return
        self.lines.append(f"  local r{self.count} = mp.reshape({name}, -1, 2, {width // 2})")
        dim = self.draw.choice([2, 3])
        kept = width // 2 if dim == 2 else 2
        text = self.draw.choice(["mp.sum", "mp.mean"])
        self.fresh(f"{text}(r{self.count} * r{self.count}, {dim})", kept)

    def constrain(self):
        name, width = self.any()
        self.fresh(f"mp.constrain({name} * 1.5, {{ tp = {self.draw.choice(['2', chr(34) + 'replicate' + chr(34)])} }})", width)

    def text(self):
        d = self.draw
        self.linear()
        for _ in range(d.randint(5, 14)):
            d.choice([self.linear, self.linear, self.linear, self.unary, self.unary, self.binary, self.binary, self.vector, self.fold, self.constrain])()
            if d.random() < 0.25:
                self.lines.append("  mp.cut()")
        name, _ = self.tensors[-1]
        self.lines.append(f'  local y = nn.linear("head", {name}, 10, {{ shard = {d.choice(["nil", chr(34) + "column" + chr(34), chr(34) + "row" + chr(34)])} }})')
        self.lines.append('  local z = nn.linear("tail", y, 10, { shard = "column" })')
        loss = "mp.cross_entropy(z, t.label)"
        if d.random() < 0.5:
            other, _ = self.any()
            loss += f" + 0.1 * mp.mean({other} * {other})"
        if d.random() < 0.3:
            other, width = self.any()
            self.lines.append(f'  local aux = nn.linear("aux", {other}, 10)')
            loss += " + 0.5 * mp.cross_entropy(aux, t.label)"
        body = "\n".join(self.lines)
        return f"""local nn = require "nn"
local function forward(t)
{body}
  return {{ loss = {loss}, accuracy = mp.accuracy(z, t.label), outputs = {{ z = z, y = y }} }}
end
return mp.program {{
  forward = forward, name = "random", data = mp.idx {{ image = {{ "f32", 784 }}, label = {{ "i32" }} }},
  batch = 24, optimizer = mp.sgd {{ lr = 0.001, momentum = 0.9, weight_decay = 0.01 }},
}}
"""


class Comparison:
    """A model's spec and its trainings. Where batch norm is that of a replica's micro-batch, one device has as many groups
    of samples as all replicas."""

    def __init__(self, name, model, microbatches):
        self.spec, self.microbatches, self.model = WORK / f"random/{name}.lua", microbatches, model
        self.spec.parent.mkdir(parents=True, exist_ok=True)
        self.spec.write_text(model.text())
        self.words = ["--data", "synthetic", "--seed", 5] + (["--eval", "synthetic"] if model.evaluates else [])

    def options(self, microbatches):
        return ["--dtype", "f64", "--microbatches", microbatches]

    def one(self, dp):
        groups = 1 if self.model.sync else dp
        return Program(self.spec, "--mesh", "1", *self.options(self.microbatches * groups)).train_once("one", STEPS, *self.words)

    def many(self, plan):
        return Program(self.spec, *plan).train("many", STEPS, *self.words)

    def outputs(self, plan, weights):
        program = Program(self.spec, *plan, "--mode", "infer")
        output = program.folder / "output.safetensors"
        program.run(*self.words[:4], "--load", weights, "--output", output)
        return safetensors.read(output)


def significant(weights):
    return {n: numpy.where(abs(w) < ROUNDED, 0, w) for n, w in weights.items()}


def compare(name, model, seed):
    draw = random.Random(-1 - seed)
    comparison = Comparison(name, model(seed), draw.choice([1, 2, 4]))
    compared = 0
    for _ in range(6):
        dp, tp, pp = draw.choice([1, 1, 2, 3]), draw.choice([1, 2, 2, 3, 4]), draw.choice([1, 1, 2, 3, 4])
        plan = ["--mesh", f"dp={dp},tp={tp},pp={pp}", "--schedule", draw.choice(["1F1B", "GPipe"]),
                *comparison.options(comparison.microbatches), *(["--zero", "1"] if dp > 1 and draw.random() < 0.5 else [])]
        planned = mpgen("-q", comparison.spec, *plan, "--explain=json", status=None)
        if planned.status == 1:
            check(": error: " in planned.stderr, f"refused without a reason: {planned.stderr[:200]}")
            continue
        check(planned.status == 0, f"mpgen ended with {planned.status} on {plan[1]}: {planned.stderr[-300:]}")
        training, one = comparison.many(plan), comparison.one(dp)
        try:
            compare_numbers("loss", training.losses, one.losses, 1e-9)
            compare_tensors(significant(training.weights), significant(one.weights), 1e-9)
            compare_numbers("evaluation", *[[line["eval_loss"] for line in run.evaluations] for run in (training, one)], 1e-9)
            if model.evaluates and not compared:
                compare_tensors(comparison.outputs(plan, one.checkpoint), comparison.outputs(
                    ["--mesh", "1", *comparison.options(1)], one.checkpoint), 1e-9)
        except Failure as difference:
            raise Failure(f"{' '.join(map(str, plan))}: {difference}")
        compared += 1
        if compared == 2:
            break
    print(f"{compared} plans compared")


def cases(long):
    count = 120 if long else 4
    return [Case(f"{kind}-{seed}", compare, f"{kind}-{seed}", model, seed, heavy=True)
            for kind, model in (("seed", Model), ("images", ImageModel)) for seed in range(count)]
