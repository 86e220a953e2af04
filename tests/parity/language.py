"""Parity of specs/gpt2.lua and specs/llama.lua with the same models in plain PyTorch: small ones, all of their parts.

Weights go to the program in the names and layouts of Hugging Face's files, which the models here compute with as they are.
Gradients are what one step leaves in AdamW's first average. Training is 20 steps of AdamW with its two decay groups, clipping,
and a warm-up before a cosine. bf16 is compared with f32: PyTorch's own bf16 differs from it too, and ours may not much more.
"""
import numpy

from files import exchange, import_torch
from lib import layouts, safetensors
from lib.harness import ROOT, Case, Program, check, compare_numbers, compare_tensors

WORDS, CONTEXT, WIDTH, LAYERS, FF, BATCH, BATCHES, STEPS = 61, 16, 64, 2, 88, 8, 4, 20
RATE, LEAST, WARMUP, DECAY, BETAS = 3e-3, 3e-4, 5, 0.1, (0.9, 0.95)
TOLERANCE = {"f64": 1e-9, "f32": 1e-5}
ANYWHERE = 1e-3         # of all gradients: a tensor of less than that may differ by what theirs do, in f32
MARGIN = {"logits": 1.1, "gradients": 1.1, "losses": 2} # times the error of PyTorch's bf16; 20 losses are few: theirs is chance
SPECS = {               # name: family, query heads, key and value heads, tied
    "gpt2": ("gpt2", 4, 4, True),
    "llama": ("llama", 8, 2, False),
    "llama_tied": ("llama", 4, 4, True),
}


class Model:
    """A decoder from {name in files: tensor}. forward gives logits [batch, context, words] in the type of the weights."""

    def __init__(self, name):
        self.torch = import_torch()
        self.family, self.heads, self.groups, self.tied = SPECS[name]
        self.size = WIDTH // self.heads
        self.forward = {"gpt2": self.gpt2, "llama": self.llama}[self.family]
        self.table = {"gpt2": "wte.weight", "llama": "model.embed_tokens.weight"}[self.family]

    def shapes(self):
        if self.family == "gpt2":
            block = {"ln_1.weight": [WIDTH], "ln_1.bias": [WIDTH], "attn.c_attn.weight": [WIDTH, 3 * WIDTH],
                     "attn.c_attn.bias": [3 * WIDTH], "attn.c_proj.weight": [WIDTH, WIDTH], "attn.c_proj.bias": [WIDTH],
                     "ln_2.weight": [WIDTH], "ln_2.bias": [WIDTH], "mlp.c_fc.weight": [WIDTH, 4 * WIDTH],
                     "mlp.c_fc.bias": [4 * WIDTH], "mlp.c_proj.weight": [4 * WIDTH, WIDTH], "mlp.c_proj.bias": [WIDTH]}
            ends = {"wte.weight": [WORDS, WIDTH], "wpe.weight": [CONTEXT, WIDTH], "ln_f.weight": [WIDTH], "ln_f.bias": [WIDTH]}
            return {**ends, **{f"h.{i}.{n}": s for i in range(LAYERS) for n, s in block.items()}}
        kept = self.groups * self.size
        block = {"input_layernorm.weight": [WIDTH], "self_attn.q_proj.weight": [WIDTH, WIDTH],
                 "self_attn.k_proj.weight": [kept, WIDTH], "self_attn.v_proj.weight": [kept, WIDTH],
                 "self_attn.o_proj.weight": [WIDTH, WIDTH], "post_attention_layernorm.weight": [WIDTH],
                 "mlp.gate_proj.weight": [FF, WIDTH], "mlp.up_proj.weight": [FF, WIDTH], "mlp.down_proj.weight": [WIDTH, FF]}
        ends = {"model.embed_tokens.weight": [WORDS, WIDTH], "model.norm.weight": [WIDTH]}
        ends.update({} if self.tied else {"lm_head.weight": [WORDS, WIDTH]})
        return {**ends, **{f"model.layers.{i}.{n}": s for i in range(LAYERS) for n, s in block.items()}}

    def attention(self, q, k, v):
        """[batch, heads, context, size] each; the groups' keys and values serve several heads."""
        k, v = (x.repeat_interleave(self.heads // x.shape[1], 1) for x in (k, v))
        scores = q @ k.transpose(-1, -2) / self.size ** 0.5
        hidden = self.torch.ones(scores.shape[-2:], dtype=self.torch.bool).triu(1)
        return (scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v).transpose(1, 2).flatten(2)

    def split(self, x):
        return x.unflatten(-1, (-1, self.size)).transpose(1, 2)

    def gpt2(self, w, tokens):
        F = self.torch.nn.functional

        def norm(name, x):
            return F.layer_norm(x, [WIDTH], w[name + ".weight"], w[name + ".bias"], 1e-5)

        def linear(name, x):
            return x @ w[name + ".weight"] + w[name + ".bias"]

        x = F.embedding(tokens, w["wte.weight"]) + w["wpe.weight"]
        for block in (f"h.{i}." for i in range(LAYERS)):
            parts = linear(block + "attn.c_attn", norm(block + "ln_1", x)).chunk(3, -1)
            x = x + linear(block + "attn.c_proj", self.attention(*map(self.split, parts)))
            h = F.gelu(linear(block + "mlp.c_fc", norm(block + "ln_2", x)), approximate="tanh")
            x = x + linear(block + "mlp.c_proj", h)
        return norm("ln_f", x) @ w["wte.weight"].T

    def llama(self, w, tokens):
        torch, F = self.torch, self.torch.nn.functional

        def norm(name, x):
            full = x if x.dtype == torch.float64 else x.float()
            return w[name + ".weight"] * (full * torch.rsqrt((full * full).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)

        def turned(x):
            frequency = 500000.0 ** (-torch.arange(0, self.size, 2, dtype=torch.float64) / self.size)
            angle = torch.outer(torch.arange(CONTEXT, dtype=torch.float64), frequency).repeat(1, 2)
            half = torch.cat((-x[..., self.size // 2:], x[..., :self.size // 2]), -1)
            return x * angle.cos().to(x.dtype) + half * angle.sin().to(x.dtype)

        x = F.embedding(tokens, w["model.embed_tokens.weight"])
        for block in (f"model.layers.{i}." for i in range(LAYERS)):
            h = norm(block + "input_layernorm", x)
            q, k, v = (self.split(F.linear(h, w[f"{block}self_attn.{part}_proj.weight"])) for part in "qkv")
            x = x + F.linear(self.attention(turned(q), turned(k), v), w[block + "self_attn.o_proj.weight"])
            h = norm(block + "post_attention_layernorm", x)
            gate, up = (F.linear(h, w[f"{block}mlp.{part}_proj.weight"]) for part in ("gate", "up"))
            x = x + F.linear(F.silu(gate) * up, w[block + "mlp.down_proj.weight"])
        return F.linear(norm("model.norm", x), w["model.embed_tokens.weight" if self.tied else "lm_head.weight"])

    def loss(self, w, tokens, labels):
        logits = self.forward(w, tokens)
        full = logits if logits.dtype == self.torch.float64 else logits.float()
        return self.torch.nn.functional.cross_entropy(full.flatten(0, 1), labels.flatten().long(), ignore_index=-1)


def make_data():
    """Ids that count up from one of a few, so that there is something to learn; a tenth of the labels does not count."""
    random = numpy.random.default_rng(21)
    start = random.integers(0, 7, (BATCH * BATCHES, 1)) * 8
    ids = (start + numpy.arange(CONTEXT + 1) + (random.random((BATCH * BATCHES, CONTEXT + 1)) < 0.1)) % WORDS
    labels = numpy.where(random.random((BATCH * BATCHES, CONTEXT)) < 0.1, -1, ids[:, 1:])
    return {"tokens": ids[:, :-1].astype("i4"), "labels": labels.astype("i4")}


def make_weights(shapes):
    """Biases and norms too differ from what they start with; all are exact in f32."""
    random = numpy.random.default_rng(22)
    norms = ("ln_1.weight", "ln_2.weight", "ln_f.weight", "norm.weight")
    return {name: random.normal(name.endswith(norms), 0.15, shape).astype("f4") for name, shape in sorted(shapes.items())}


class Reference:
    """The model in PyTorch. real: in what it computes; parameters and what AdamW does are in full precision."""

    def __init__(self, name, dtype):
        self.model = Model(name)
        self.torch = torch = self.model.torch
        self.full = torch.float64 if dtype == "f64" else torch.float32
        self.real = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16}[dtype]
        self.data_path, data = exchange("language", make_data)
        # In f64 files hold f64: what is loaded is compared to the last digits.
        kind = {"f64": "f8"}.get(dtype, "f4")
        self.weights_path, weights = exchange(f"language-{name}-{kind}", lambda: {
            n: v.astype(kind) for n, v in make_weights(self.model.shapes()).items()})
        self.data = {n: torch.from_numpy(t) for n, t in data.items()}
        self.weights = {n: torch.tensor(v, dtype=self.full, requires_grad=True) for n, v in weights.items()}
        self.words = ["--data", self.data_path, "--load", self.weights_path, "--order", "file"]

    def computed(self):
        return {n: w.to(self.real) for n, w in self.weights.items()}

    def logits(self):
        with self.torch.no_grad():
            return self.model.forward(self.computed(), self.data["tokens"]).to(self.full).numpy()

    def step(self, step):
        """The loss of a step's batch, and the gradients."""
        own = slice(step % BATCHES * BATCH, (step % BATCHES + 1) * BATCH)
        loss = self.model.loss(self.computed(), self.data["tokens"][own], self.data["labels"][own])
        loss.backward()
        return loss.item()

    def gradients(self):
        self.step(0)
        return {n: w.grad.double().numpy() for n, w in self.weights.items()}

    def rate(self, step):
        if step < WARMUP:
            return RATE * (step + 1) / WARMUP
        return LEAST + (RATE - LEAST) * 0.5 * (1 + numpy.cos(numpy.pi * (step - WARMUP) / (STEPS - WARMUP)))

    def train(self):
        """(losses, norms of the gradient before it is clipped); the weights are trained in place."""
        torch, losses, norms = self.torch, [], []
        groups = [{"params": [w for w in self.weights.values() if (w.dim() > 1) == large], "weight_decay": DECAY * large}
                  for large in (True, False)]
        optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=1e-8)
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = self.rate(step)
            optimizer.zero_grad()
            losses.append(self.step(step))
            norms.append(torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0).item())
            optimizer.step()
        return losses, norms


def program(name, mesh, dtype, *words, clip=1.0):
    family, heads, groups, tied = SPECS[name]
    options = {"vocab": WORDS, "context": CONTEXT, "width": WIDTH, "layers": LAYERS, "heads": heads, "lr": RATE, "min_lr": LEAST,
               "warmup": WARMUP, "weight_decay": DECAY, "clip": clip}
    if family == "llama":
        options.update(kv_heads=groups, ff=FF, tied=str(tied).lower())
    defined = [word for option, value in options.items() for word in ("-D", f"{option}={value}")]
    return Program(ROOT / f"specs/{family}.lua", *defined, "--mesh", *mesh.split(), "--batch", BATCH, "--dtype", dtype,
                   *words, optimize=True)


def logits_of(name, mesh, dtype, reference):
    binary = program(name, mesh, dtype, "--mode", "infer")
    output = binary.folder / "logits.safetensors"
    binary.run("--data", reference.data_path, "--load", reference.weights_path, "--output", output)
    return safetensors.read(output)["logits"][..., :WORDS]


def gradients_of(name, mesh, dtype, reference):
    run = program(name, mesh, dtype, "--microbatches", 2, clip=0.0).train("gradients", 1, *reference.words)
    return layouts.gradients(run.checkpoint, SPECS[name][0])


# ---------------------------------------------------------------------------------------------------------

def forward(name, mesh, dtype):
    reference = Reference(name, dtype)
    compare_tensors({"logits": logits_of(name, mesh, dtype, reference)}, {"logits": reference.logits()}, TOLERANCE[dtype])


def norm(tensors):
    return sum((t.astype("f8") ** 2).sum() for t in tensors.values()) ** 0.5


def gradients(name, mesh, dtype):
    reference = Reference(name, dtype)
    found, expected = gradients_of(name, mesh, dtype, reference), reference.gradients()
    check(sorted(found) == sorted(expected), f"gradients of {sorted(found)}, not {sorted(expected)}")
    if dtype == "f64":
        return compare_tensors(found, expected, TOLERANCE[dtype])
    everything = norm(expected)
    for n, e in expected.items():
        error = norm({n: found[n] - e}) / max(norm({n: e}), ANYWHERE * everything)
        check(error <= TOLERANCE[dtype], f"{n}: its gradient differs by {error:.2g} of its norm > {TOLERANCE[dtype]:g}")


def training(name, mesh, dtype):
    reference = Reference(name, dtype)
    run = program(name, mesh, dtype, "--microbatches", 2).train("parity", STEPS, *reference.words)
    losses, norms = reference.train()
    check(losses[-1] < 0.8 * losses[0], f"PyTorch's losses do not fall: {losses}")
    check(max(norms) > 1.2, f"nothing is clipped: {norms}")
    compare_numbers("loss of step", run.losses, losses, TOLERANCE[dtype])
    compare_numbers("norm of step", run.norms, norms, {"f64": 1e-9, "f32": 1e-3}[dtype])
    if dtype == "f64":
        compare_tensors(run.weights, {n: w.detach().numpy() for n, w in reference.weights.items()}, TOLERANCE[dtype])


def bf16(name, mesh):
    """Errors of bf16 against f32, as shares of the norm: ours and PyTorch's, of logits, of all gradients and of losses."""
    exact, theirs = Reference(name, "f32"), Reference(name, "bf16")
    want = {"logits": {"": exact.logits()}, "gradients": exact.gradients()}
    ours = {"logits": {"": logits_of(name, mesh, "bf16", theirs)}, "gradients": gradients_of(name, mesh, "bf16", theirs)}
    peer = {"logits": {"": theirs.logits()}, "gradients": theirs.gradients()}
    run = program(name, mesh, "bf16", "--microbatches", 2).train("bf16", STEPS, *theirs.words)
    for side, losses in ((want, exact.train()[0]), (peer, theirs.train()[0]), (ours, run.losses)):
        side["losses"] = {"": numpy.array(losses)}
    for what, right in want.items():
        errors = [norm({n: side[what][n] - right[n] for n in right}) / norm(right) for side in (ours, peer)]
        print(f"@note {name} on {mesh}: {what} in bf16 differ from f32 by {errors[0]:.2e}, PyTorch's by {errors[1]:.2e}")
        check(1e-4 < errors[0] <= MARGIN[what] * errors[1], f"{what}: an error of {errors[0]:.3g}, PyTorch's is {errors[1]:.3g}")


def cases(long):
    meshes = ["1", "tp=2,pp=2 --sequence-parallel"] + (["dp=2", "tp=2", "pp=2", "dp=2,tp=2,pp=2"] if long else [])
    found = []
    for name in SPECS:
        rows = [(kind, name, mesh, dtype) for kind in (forward, gradients, training) for mesh in meshes for dtype in TOLERANCE
                if long or mesh == "1" or (dtype == "f64" and name != "llama_tied" and kind != forward)]
        found += [Case(f"{kind.__name__}-{name}-{dtype}" + ("" if mesh == "1" else "-" + mesh.replace(" --", "-")), kind, name, mesh,
                       dtype) for kind, name, mesh, dtype in rows if not (kind is forward and "sequence" in mesh)]
        found += [Case(f"bf16-{name}", bf16, name, "1")]
    return found
