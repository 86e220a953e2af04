"""The shipped and some test specs in PyTorch, in its own words: each a function forward(weights, batch) -> (loss,
outputs), with the inputs' shapes and what the spec's optimizer says."""
import math
import re

import torch
import torch.nn.functional as F


def linear(w, name, x):
    return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))


def cross_entropy(logits, label):
    return F.cross_entropy(logits, label, ignore_index=-1)


def mlp(w, t):
    h = F.relu(linear(w, "fc1", t["image"]))
    h = F.relu(linear(w, "fc2", h))
    h = F.relu(linear(w, "fc3", h))
    logits = linear(w, "fc4", h)
    return cross_entropy(logits, t["label"]), {"logits": logits}


def one_linear(w, t):
    y = linear(w, "linear", t["x"])
    return F.mse_loss(y, t["target"]), {"y": y}


def pair(w, t):
    y = linear(w, "down", linear(w, "up", t["x"]))
    return F.mse_loss(y, t["target"]), {"y": y}


def residual_across_cut(w, t):
    h = F.relu(linear(w, "first", t["image"]))
    logits = linear(w, "third", h + F.relu(linear(w, "second", h)))
    return cross_entropy(logits, t["label"]), {"logits": logits}


def shared_weight(w, t):
    shared = w["shared.weight"]
    h = F.relu(linear(w, "first", t["image"]))
    h = F.relu(F.linear(h, shared, w["second.bias"]))
    h = F.relu(linear(w, "third", h))
    logits = linear(w, "fifth", F.relu(F.linear(h, shared)))
    return cross_entropy(logits, t["label"]), {"logits": logits}


def two_losses(w, t):
    h = F.relu(linear(w, "left", t["left"])) + F.relu(linear(w, "right", t["right"]))
    kind, value = linear(w, "kind", h), linear(w, "value", h)
    loss = cross_entropy(kind, t["kind"]) + 0.5 * F.mse_loss(value, t["value"])
    return loss, {"kind": kind, "value": value}


def chains(w, t):
    samples = len(t["x"])
    h = F.gelu((t["x"] - w["shift"]) * w["gain"])
    h = linear(w, "inner", h)
    h = F.gelu(h, approximate="tanh") / (2.5 + h * h)
    means = h.mean(-1)
    h = linear(w, "outer", h).softmax(-1) - w["shift"] / 2
    rows = h.sum(1) / w["gain"]
    wide = F.relu(h.reshape(samples, 48)) - 0.1
    y = linear(w, "last", wide) + linear(w, "side", -means * w["gain"].mean())
    return F.mse_loss(y, t["y"]) + 0.125 * (rows * rows).mean(), {"y": y, "rows": rows}


def uneven(w, t):
    h = linear(w, "second", F.relu(linear(w, "first", t["image"])))
    h = F.gelu(linear(w, "third", h))
    h = F.relu(linear(w, "fourth", h * linear(w, "gate", h).softmax(-1)))
    logits = linear(w, "classes", h)
    return cross_entropy(logits, t["label"]), {"logits": logits}


def reuse(w, t):
    twice, scale = w["twice.weight"], w["scale"]
    h = F.relu(linear(w, "first", t["image"]))
    h = h + F.relu(F.linear(F.relu(F.linear(h, twice)), twice))
    h = F.gelu(F.linear(h, twice) * scale, approximate="tanh") + h * scale
    logits = linear(w, "last", F.linear(h, twice))
    penalty = 1e-3 * (twice * twice).sum() + (scale * scale).mean()
    return cross_entropy(logits, t["label"]) + penalty, {"logits": logits}


def adamw(w, t):
    shared = w["shared.weight"]
    h = F.relu(linear(w, "second", F.relu(linear(w, "first", t["image"]))))
    h = F.relu(F.linear(h, shared)) + h
    h = linear(w, "fourth", F.relu(linear(w, "third", h)))
    h = F.gelu(F.linear(h, shared) * w["scale"], approximate="tanh")
    logits = linear(w, "last", h)
    return cross_entropy(logits, t["label"]), {"logits": logits, "unused": linear(w, "unused", h)}


def activations(w, t):
    x = t["x"] * w["gain"]
    outputs = {"gelu_erf": F.gelu(x), "gelu_tanh": F.gelu(x, approximate="tanh"), "softmax": x.softmax(-1),
               "relu": F.relu(x), "silu": F.silu(x), "tanh": x.tanh(), "sigmoid": x.sigmoid()}
    return sum(F.mse_loss(y, t["y"]) for y in outputs.values()), outputs


def attention(qkv):
    """Causal: [tokens, batch, groups, queries + 2, size] -> [tokens, batch, groups, queries, size]."""
    q, k, v = qkv[:, :, :, :-2], qkv[:, :, :, -2], qkv[:, :, :, -1]
    scores = torch.einsum("tbgqs,ubgs->bgqtu", q, k) / q.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape[-2:]).triu(1).bool()
    return torch.einsum("bgqtu,ubgs->tbgqs", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)


def attends(w, t):
    def layer(name, sample):
        mixed = torch.einsum("bf,gqsef->bgqse", sample, w[name + ".weight"])
        qkv = torch.einsum("te,bgqse->tbgqs", w["positions"], mixed) + w[name + ".bias"]
        return F.linear(attention(qkv).flatten(2), w[name + ".join"])

    h = layer("first", t["x"])
    again = layer("second", h.mean(0)) + h
    return F.mse_loss(again, t["y"].expand_as(again)), {"y": again.mean(0)}


def gelus(w, t):
    def pair(name, x):
        return x + linear(w, f"{name}.down", F.gelu(linear(w, f"{name}.up", x), approximate="tanh"))

    h = pair("no_bias", pair("first", t["x"]))
    again = linear(w, "residual.linear", h)
    h = pair("odd", again + linear(w, "residual.down", F.gelu(again, approximate="tanh")))
    y = F.gelu(linear(w, "last", h), approximate="tanh")
    return F.mse_loss(y, t["y"]), {"y": y}


def window(name, letters):
    """The {height, width} of each letter in the name of an output of images.lua."""
    return [tuple(map(int, re.search(f"_{letter}(\\d+)x(\\d+)", name).groups())) for letter in letters]


def pool(name, x):
    if name.startswith("adaptive"):
        return F.adaptive_avg_pool2d(x, tuple(map(int, re.findall(r"\d+", name))))
    if name.startswith("max"):
        return F.max_pool2d(x, *window(name, "kspd"))
    return F.avg_pool2d(x, *window(name, "ksp"), count_include_pad="include" in name)


# The pools that images.lua lists.
POOLS = """max_k2x2_s2x2_p0x0_d1x1 max_k3x3_s2x2_p1x1_d1x1 max_k2x3_s1x2_p1x0_d2x3 max_k9x7_s1x1_p0x0_d1x1
    max_k3x3_s1x1_p1x1_d1x1 max_k1x1_s4x4_p0x0_d1x1 avg_k2x2_s2x2_p0x0_include avg_k3x3_s2x2_p1x1_include
    avg_k3x3_s2x2_p1x1_exclude avg_k2x5_s1x3_p0x2_exclude avg_k3x2_s3x1_p1x1_include
    adaptive_1x1 adaptive_3x3 adaptive_2x5 adaptive_9x7 adaptive_4x1 adaptive_11x8""".split()


def images(w, t):
    x, outputs = t["x"] * w["gain"], {"ties": F.max_pool2d(t["steps"] * w["ones"], (4, 3), (2, 1), (2, 1))}
    for name in [n[:-len(".weight")] for n in w if n.endswith(".weight")]:
        stride, padding, dilation = window(name, "spd")
        groups = int(re.search(r"_g(\d+)", name)[1])
        outputs[name] = F.conv2d(x, w[name + ".weight"], w[name + ".bias"], stride, padding, dilation, groups)
    outputs.update({name: pool(name, x) for name in POOLS})
    return sum((y * y).mean() for y in outputs.values()), outputs


def rms_norm(x, weight, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def rope(qkv, theta, scaling=None):
    """As Hugging Face's models do it, for all heads of a group but the last; positions are those of the first dim."""
    size = qkv.shape[-1]
    frequency = 1.0 / theta ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
    if scaling:
        factor, low, high, original = scaling
        wave = 2 * math.pi / frequency
        smooth = (original / wave - low) / (high - low)
        stretched = torch.where(wave > original / low, frequency / factor, frequency)
        between = (1 - smooth) * frequency / factor + smooth * frequency
        frequency = torch.where((wave >= original / high) & (wave <= original / low), between, stretched)
    angle = torch.outer(torch.arange(len(qkv), dtype=torch.float64), frequency)
    angle = torch.cat((angle, angle), -1)[:, None, None, None]
    x = qkv[..., :-1, :]
    half = torch.cat((-x[..., size // 2:], x[..., :size // 2]), -1)
    return torch.cat((x * angle.cos().to(x) + half * angle.sin().to(x), qkv[..., -1:, :]), -2)


def rows(w, t):
    x = t["x"] * w["gain"]
    qkv = torch.einsum("tp,ghdpi,bi->tbghd", w["positions"], w["heads"], x)
    up = torch.einsum("hoi,bi->bho", w["up"], x)
    outputs = {
        "layer_norm": F.layer_norm(x, [16], w["layer_norm.weight"], w["layer_norm.bias"]),
        "no_bias": F.layer_norm(x, [16], w["no_bias.weight"], eps=0.1),
        "far": F.layer_norm(x + 10, [16], w["far.weight"], w["far.bias"], 1e-6),
        "rms_norm": rms_norm(x, w["rms_norm.weight"], 1e-5),
        "rms_eps": rms_norm(x, w["rms_eps.weight"], 0.5),
        "swiglu": F.silu(up[:, 0]) * up[:, 1],
    }
    loss = sum(F.mse_loss(y, t["y"]) for y in outputs.values())
    outputs["rope"] = (rope(qkv, 10000) * qkv).sum(0)
    outputs["stretched"] = (rope(qkv, 50, (4, 1, 3, 32)) * qkv).sum(0)
    return loss + outputs["rope"].tanh().mean() + outputs["stretched"].tanh().mean(), outputs


def tokens(w, t):
    h = torch.tanh(linear(w, "mixed", F.embedding(t["x"], w["token.weight"])))
    logits = h @ w["token.weight"].T
    loss = F.cross_entropy(logits[..., :9].flatten(0, 1), t["y"].flatten(), ignore_index=-1)
    return loss, {"logits": logits}


class Model:
    """shapes: of a sample of each input, or the number of classes of a label; the rest is what the spec's optimizer
    says: lr, momentum, decay (not of the parameters no_decay), linear decay of the learning rate, or a cosine, down to
    least, its warm-up; betas and epsilon of AdamW, and the norm that gradients are clipped to."""

    def __init__(self, forward, shapes, lr, momentum=0.0, decay=0.0, no_decay=(), linear=False, warmup=0, cosine=False,
                 least=0.0, adamw=None, clip=None):
        self.cosine, self.least, self.adamw, self.clip = cosine, least, adamw, clip
        self.forward, self.shapes, self.lr, self.momentum, self.decay = forward, shapes, lr, momentum, decay
        self.no_decay, self.linear, self.warmup = no_decay, linear, warmup

    def rate(self, step, steps):
        """The learning rate of step 0, 1, …"""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / (steps - self.warmup)
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.cosine else 1 - done if self.linear else 1
        return self.least + (self.lr - self.least) * left

    def optimizer(self, weights):
        """torch.optim.SGD or AdamW over {name: tensor}."""
        groups = [{"params": [w for n, w in weights.items() if n not in self.no_decay], "weight_decay": self.decay},
                  {"params": [w for n, w in weights.items() if n in self.no_decay], "weight_decay": 0.0}]
        groups = [g for g in groups if g["params"]]
        if self.adamw:
            *betas, epsilon = self.adamw
            return torch.optim.AdamW(groups, lr=self.lr, betas=betas, eps=epsilon)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)


IMAGE = {"image": [784], "label": 10}
MODELS = {
    "mlp": Model(mlp, IMAGE, 0.01),
    "momentum": Model(mlp, IMAGE, 0.01, momentum=0.9, decay=1e-2, linear=True),
    "column": Model(one_linear, {"x": [1024], "target": [4096]}, 0.01),
    "row": Model(one_linear, {"x": [1024], "target": [4096]}, 0.01),
    "pair": Model(pair, {"x": [1024], "target": [1024]}, 0.01),
    "residual_across_cut": Model(residual_across_cut, IMAGE, 0.1),
    "shared_weight": Model(shared_weight, IMAGE, 0.1, no_decay=("shared.weight",)),
    "two_losses": Model(two_losses, {"left": [12], "right": [8], "value": [1], "kind": 3}, 0.1, momentum=0.9, decay=1e-4,
                        linear=True, warmup=5),
    "chains": Model(chains, {"x": [6, 8], "y": [12]}, 0.1),
    "uneven": Model(uneven, IMAGE, 0.05, momentum=0.9, decay=1e-3),
    "reuse": Model(reuse, IMAGE, 0.05, momentum=0.8, decay=1e-2, no_decay=("scale",), linear=True, warmup=4),
    "adamw": Model(adamw, IMAGE, 0.005, decay=0.1, no_decay=("scale",), warmup=5, cosine=True, least=0.0005,
                   adamw=(0.9, 0.95, 1e-6), clip=0.3),
    "clipped": Model(adamw, IMAGE, 0.005, momentum=0.9, decay=0.1, no_decay=("scale",), warmup=5, cosine=True, least=0.0005,
                     clip=0.3),
    "unclipped": Model(adamw, IMAGE, 0.005, decay=0.1, no_decay=("scale",), warmup=5, cosine=True, least=0.0005,
                       adamw=(0.9, 0.95, 1e-6)),
    "attends": Model(attends, {"x": [12], "y": [12]}, 0.05, momentum=0.5),
    "gelus": Model(gelus, {"x": [2, 16], "y": [2, 16]}, 0.05, momentum=0.5),
    "activations": Model(activations, {"x": [16], "y": [16]}, 0.5),
    "rows": Model(rows, {"x": [16], "y": [16]}, 0.1, decay=0.01, no_decay=(
        "layer_norm.weight", "layer_norm.bias", "no_bias.weight", "far.weight", "far.bias", "rms_norm.weight", "rms_eps.weight")),
    "tokens": Model(tokens, {"x": (9, 6), "y": (9, 6)}, 0.5, momentum=0.5),
    "images": Model(images, {"x": [4, 9, 7], "steps": [4, 9, 7]}, 0.1),
}
