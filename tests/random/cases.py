"""Random models on random meshes: the plan must compute what one device computes (f64, 1e-9).

A model is drawn from a seed: layers with and without shards, element-wise ops, reductions, reshapes, residuals over any
distance, shared weights, cuts anywhere, several losses. What mpgen refuses, it must refuse with its exit status for
mistakes in a spec or a mesh, never crash.
"""
import random

from lib.harness import WORK, Case, Failure, Program, check, compare_numbers, compare_tensors, mpgen

STEPS = 5
WIDTHS = (6, 8, 10, 12)


class Model:
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


def compare(seed):
    draw = random.Random(-1 - seed)
    spec = WORK / f"random/{seed}.lua"
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(Model(seed).text())
    microbatches = draw.choice([1, 2, 4])
    base = ["--dtype", "f64", "--microbatches", microbatches]
    one = Program(spec, "--mesh", "1", *base).train("one", STEPS, "--data", "synthetic", "--seed", 5)
    compared = 0
    for _ in range(6):
        mesh = f"dp={draw.choice([1, 1, 2, 3])},tp={draw.choice([1, 2, 2, 3, 4])},pp={draw.choice([1, 1, 2, 3, 4])}"
        plan = ["--mesh", mesh, "--schedule", draw.choice(["1F1B", "GPipe"]), *base]
        planned = mpgen("-q", spec, *plan, "--explain=json", status=None)
        if planned.status == 1:
            check(": error: " in planned.stderr, f"refused without a reason: {planned.stderr[:200]}")
            continue
        check(planned.status == 0, f"mpgen ended with {planned.status} on {mesh}: {planned.stderr[-300:]}")
        training = Program(spec, *plan).train("many", STEPS, "--data", "synthetic", "--seed", 5)
        try:
            compare_numbers("loss", training.losses, one.losses, 1e-9)
            compare_tensors(training.weights, one.weights, 1e-9)
        except Failure as difference:
            raise Failure(f"{' '.join(map(str, plan))}: {difference}")
        compared += 1
        if compared == 2:
            break


def cases(long):
    return [Case(f"seed-{seed}", compare, seed, heavy=True) for seed in range(120 if long else 4)]
