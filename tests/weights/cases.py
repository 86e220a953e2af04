"""Weights in files: names.lua has the parameters of a transformer, with the names and layouts of GPT-2 and of LLaMA.

Files are written and read by numpy, which also computes the first loss from them: so what lies where in a file is checked
against a model that knows the files alone, on several meshes. Mistakes in files are refused with the names.
"""
import json
import pathlib
import shutil

import numpy

from lib import safetensors
from weights import published
from lib.harness import WORK, Case, Program, check, compare_numbers, compare_tensors

SPEC = pathlib.Path(__file__).resolve().parent / "names.lua"
WORDS, WIDTH, HEADS, FF, BATCH = 13, 8, 4, 10, 8
MESHES = {"gpt2": ("tp=1", "tp=3", "dp=2,tp=2,pp=2"), "llama": ("tp=1", "tp=4", "dp=2,pp=3")}


def program(family, mesh, *options):
    return Program(SPEC, "-D", f"family={family}", "-D", f"groups={groups(family)}", "--mesh", mesh, *options)


def groups(family):
    return 4 if family == "gpt2" else 2


def shapes(family):
    """Of the tensors in files."""
    head, kv = WIDTH // HEADS, groups(family)
    if family == "gpt2":
        return {"h.0.attn.c_attn.weight": (WIDTH, 3 * WIDTH), "h.0.attn.c_attn.bias": (3 * WIDTH,),
                "h.0.attn.mix.weight": (WIDTH, 3 * WIDTH), "h.0.mlp.c_fc.weight": (WIDTH, FF),
                "h.0.mlp.c_proj.weight": (FF, WIDTH), "wte.weight": (WORDS, WIDTH)}
    layer = "model.layers.0."
    return {layer + "self_attn.q_proj.weight": (HEADS * head, WIDTH), layer + "self_attn.k_proj.weight": (kv * head, WIDTH),
            layer + "self_attn.v_proj.weight": (kv * head, WIDTH),
            layer + "self_attn.mix.weight": (WIDTH, (HEADS + 2 * kv) * head), layer + "mlp.gate_proj.weight": (FF, WIDTH),
            layer + "mlp.up_proj.weight": (FF, WIDTH), layer + "mlp.down_proj.weight": (WIDTH, FF),
            "model.embed_tokens.weight": (WORDS, WIDTH)}


def weights(family):
    random = numpy.random.default_rng(5)
    return {name: random.normal(0, 0.5, shape).astype("<f4") for name, shape in shapes(family).items()}


def loss_of(family, files, x):
    """The model as names.lua describes it, from tensors as they are in files."""
    t = {name.split("layers.0.")[-1].replace("h.0.", ""): value.astype("f8") for name, value in files.items()}
    kv, head = groups(family), WIDTH // HEADS
    if family == "gpt2":
        parts = (x @ t["attn.c_attn.weight"] + t["attn.c_attn.bias"]).reshape(-1, 3, HEADS, 1, head)
        q, k, v = parts[:, 0], parts[:, 1], parts[:, 2]
        mix, table = t["attn.mix.weight"], t["wte.weight"]
    else:
        q, k, v = (x @ t[f"self_attn.{c}_proj.weight"].T for c in "qkv")
        q, k, v = q.reshape(-1, kv, HEADS // kv, head), k.reshape(-1, kv, 1, head), v.reshape(-1, kv, 1, head)
        mix, table = t["self_attn.mix.weight"], t["model.embed_tokens.weight"]
    h = numpy.tanh(numpy.concatenate([q, k, v], axis=2).reshape(len(x), -1)) @ mix.T
    if family == "gpt2":
        h = numpy.tanh(h @ t["mlp.c_fc.weight"]) @ t["mlp.c_proj.weight"]
    else:
        gate = h @ t["mlp.gate_proj.weight"].T
        h = (gate / (1 + numpy.exp(-gate)) * (h @ t["mlp.up_proj.weight"].T)) @ t["mlp.down_proj.weight"].T
    return ((h @ table.T) ** 2).sum() / (len(x) * 16)   # padded to 16 columns of zeros


def folder_of(name):
    folder = WORK / "weights" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    x = numpy.random.default_rng(6).normal(0, 1, (BATCH, WIDTH)).astype("<f4")
    safetensors.write(folder / "x.safetensors", {"x": x})
    return folder, x.astype("f8")


def saved_by(binary, folder, name, steps, *words, **more):
    """The step_N folder of a run."""
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    binary.run("--data", folder / "x.safetensors", "--steps", steps, "--log", folder / "log", "--save", target, *words, **more)
    return target / f"step_{steps}"


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log").read_text().splitlines()]


def refused(binary, folder, path, *words, flags=()):
    result = binary.run("--data", folder / "x.safetensors", "--steps", 1, "--load", path, *flags, status=1)
    for word in words:
        check(word in result.stderr, f"{word!r} is not in {result.stderr!r}")


# ---------------------------------------------------------------------------------------------------------

def layouts(family):
    """What numpy wrote is computed with, saved as it was, trained alike and continued on another mesh."""
    folder, x = folder_of(f"layouts-{family}")
    files = weights(family)
    safetensors.write(folder / "model.safetensors", files)
    kept = {}
    for mesh in MESHES[family]:
        binary = program(family, mesh, "--dtype", "f64")
        same = saved_by(binary, folder, "same", 0, "--load", folder / "model.safetensors")
        found = safetensors.read(same / "model.safetensors")
        check(found.keys() == files.keys() and all(numpy.array_equal(found[n], files[n]) for n in files), f"{mesh}: saved otherwise")
        trained = saved_by(binary, folder, f"trained-{mesh}", 4, "--load", folder / "model.safetensors")
        compare_numbers(f"{mesh}: loss", losses(folder)[:1], [loss_of(family, files, x)], 1e-8)
        result = {name: safetensors.read(trained / f"{name}.safetensors") for name in ("model", "optimizer")}
        check({n: t.shape for n, t in result["model"].items()} == shapes(family), f"{mesh}: shapes of the trained weights")
        momentum = "wte.weight.momentum" if family == "gpt2" else "model.embed_tokens.weight.momentum"
        check(result["optimizer"][momentum].shape == (WORDS, WIDTH), f"{mesh}: optimizer state with padding")
        kept[mesh] = result
    first = kept[MESHES[family][0]]
    for mesh in MESHES[family][1:]:
        compare_tensors(kept[mesh]["model"], first["model"], 1e-9)
        compare_tensors(kept[mesh]["optimizer"], first["optimizer"], 1e-9)
    whole = safetensors.read(saved_by(program(family, MESHES[family][0], "--dtype", "f64"), folder, "whole", 6, "--load", folder / "model.safetensors")
                             / "model.safetensors")
    continued = saved_by(program(family, MESHES[family][2], "--dtype", "f64"), folder, "continued", 6, "--load", folder / f"trained-{MESHES[family][1]}")
    compare_tensors(safetensors.read(continued / "model.safetensors"), whole, 1e-9)


def initial(family):
    """Initial values do not depend on the mesh, nor on padding."""
    folder, _ = folder_of(f"initial-{family}")
    files = [(saved_by(program(family, mesh), folder, "start", 0, "--seed", 3) / "model.safetensors").read_bytes()
             for mesh in MESHES[family]]
    check(files[0] == files[1] == files[2], "initial values differ between meshes")
    values = numpy.concatenate([t.ravel() for t in safetensors.read(folder / "start/step_0/model.safetensors").values()])
    check(0.4 < values.std() < 0.6, f"standard deviation {values.std()}")


def half_precision():
    folder, x = folder_of("half")
    binary = program("llama", "tp=4")
    for kind in ("F16", "BF16"):
        files = {name: safetensors.rounded(value, kind) for name, value in weights("llama").items()}
        stored = {n: v.astype("<f2") for n, v in files.items()} if kind == "F16" else files
        safetensors.write(folder / f"{kind}.safetensors", stored, bf16=kind == "BF16")
        same = saved_by(binary, folder, "same", 0, "--load", folder / f"{kind}.safetensors")
        found = safetensors.read(same / "model.safetensors")
        check(all(numpy.array_equal(found[n], files[n]) for n in files), f"{kind}: other values")


def several_files():
    """A set with an index: numpy's is loaded, ours is whole, in files of the size asked for, and loads on another mesh."""
    folder, _ = folder_of("several")
    files = weights("llama")
    names = sorted(files)
    (folder / "set").mkdir()
    for k, part in enumerate((names[:3], names[3:])):
        safetensors.write(folder / f"set/model-0000{k + 1}-of-00002.safetensors", {name: files[name] for name in part})
    weight_map = {name: f"model-0000{1 + (name in names[3:])}-of-00002.safetensors" for name in names}
    (folder / "set/model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    saved = {}
    for mesh in ("tp=4", "dp=2,pp=3"):
        saved[mesh] = saved_by(program("llama", mesh), folder, f"saved-{mesh}", 0, "--load", folder / "set", "--max-shard-size", "1KB")
    step = saved["tp=4"]
    index = json.loads((step / "model.safetensors.index.json").read_text())
    parts = {name: safetensors.read(step / name) for name in sorted(set(index["weight_map"].values()))}
    check(len(parts) > 2 and list(parts)[0] == f"model-00001-of-{len(parts):05d}.safetensors", f"files {list(parts)}")
    check(all(sum(t.nbytes for t in part.values()) <= 1000 for part in parts.values()), "a file is too large")
    check(index["metadata"]["total_size"] == sum(t.nbytes for t in files.values()), f"total_size {index['metadata']}")
    check(index["weight_map"].keys() == files.keys(), "names in the index")
    for name, value in files.items():
        check(numpy.array_equal(parts[index["weight_map"][name]][name], value), f"{name}: other values")
    for path in step.iterdir():
        check(path.read_bytes() == (saved["dp=2,pp=3"] / path.name).read_bytes(), f"{path.name} differs between meshes")
    again = saved_by(program("llama", "tp=1"), folder, "again", 0, "--load", step)
    check(all(numpy.array_equal(t, files[n]) for n, t in safetensors.read(again / "model.safetensors").items()), "loaded otherwise")
    (step / list(parts)[1]).unlink()
    refused(program("llama", "tp=1"), folder, step, "is not a complete checkpoint", "is missing")


def names():
    """Prefixes, names to ignore and tied tensors."""
    folder, _ = folder_of("names")
    for family, mesh in (("gpt2", "tp=3"), ("llama", "tp=4")):
        binary, files, path = program(family, mesh), weights(family), folder / f"{family}.safetensors"
        own, prefix = ("wte.weight", "transformer.") if family == "gpt2" else ("model.embed_tokens.weight", "model.")
        ignored = "h.0.attn.bias" if family == "gpt2" else "layers.0.self_attn.rotary_emb.inv_freq"
        variants = {
            "prefix": {(prefix + n if family == "gpt2" else n.replace(prefix, "", 1)): v for n, v in files.items()},
            "ignored": {**files, ignored: numpy.ones((1, 1, 4, 4), "<f4")},
            "ignored with prefix": {**files, prefix + ignored: numpy.ones(4, "<f4")},
            "tied": {**files, "lm_head.weight": files[own]},
            "tied alone": {**{n: v for n, v in files.items() if n != own}, "lm_head.weight": files[own]},
        }
        for variant, tensors in variants.items():
            safetensors.write(path, tensors)
            found = safetensors.read(saved_by(binary, folder, "same", 0, "--load", path) / "model.safetensors")
            check(found.keys() == files.keys(), f"{family}, {variant}: {sorted(found)}")
            check(all(numpy.array_equal(found[n], files[n]) for n in files), f"{family}, {variant}: other values")
        safetensors.write(path, {**files, "lm_head.weight": files[own] + 1})
        refused(binary, folder, path, f"tensor lm_head.weight differs from {own}")


def mistakes():
    """Every name that is wrong is listed, and accepted only with its own option."""
    folder, _ = folder_of("mistakes")
    binary, files, path = program("llama", "tp=4"), weights("llama"), folder / "model.safetensors"
    layer = "model.layers.0."
    q, k, v, gate = (layer + name + "_proj.weight" for name in ("self_attn.q", "self_attn.k", "self_attn.v", "mlp.gate"))
    start = safetensors.read(saved_by(binary, folder, "start", 0, "--seed", 3) / "model.safetensors")

    def accepted(tensors, option, fresh):
        safetensors.write(path, tensors)
        found = safetensors.read(saved_by(binary, folder, "found", 0, "--seed", 3, "--load", path, option) / "model.safetensors")
        for name in files:
            check(numpy.array_equal(found[name], (start if name in fresh else files)[name]), f"{option}: {name} has other values")

    lacks = {n: t for n, t in files.items() if n not in (k, gate)}
    safetensors.write(path, lacks)
    refused(binary, folder, path, "lacks tensors of the model", k, gate, "--allow-missing")
    refused(binary, folder, path, "lacks tensors", flags=("--allow-unused", "--allow-mismatched"))
    accepted(lacks, "--allow-missing", (k, gate))
    more = {**files, layer + "self_attn.q_proj.bias": files[q][0], "extra": files[q]}
    safetensors.write(path, more)
    refused(binary, folder, path, "does not use: extra, " + layer + "self_attn.q_proj.bias", "--allow-unused")
    refused(binary, folder, path, "does not use", flags=("--allow-missing", "--allow-mismatched"))
    accepted(more, "--allow-unused", ())
    other = {**files, v: files[v][:-1].copy(), gate: files[gate].T.copy()}
    safetensors.write(path, other)
    refused(binary, folder, path, f"tensor {v} is F32 [3, 8], but the model's is F32 [4, 8]",
            f"tensor {gate} is F32 [8, 10], but the model's is F32 [10, 8]", "--allow-mismatched")
    refused(binary, folder, path, f"tensor {v} is", flags=("--allow-missing", "--allow-unused"))
    accepted(other, "--allow-mismatched", (v, gate))


def config():
    folder, _ = folder_of("config")
    gpt2 = json.loads((saved_by(program("gpt2", "tp=3"), folder, "gpt2", 0) / "config.json").read_text())
    check(gpt2["architectures"] == ["GPT2LMHeadModel"] and gpt2["n_embd"] == WIDTH and gpt2["layer_norm_epsilon"] == 1e-5
          and gpt2["tie_word_embeddings"] is True and gpt2["vocab_size"] == WORDS and gpt2["resid_pdrop"] == 0, gpt2)
    llama = json.loads((saved_by(program("llama", "tp=4"), folder, "llama", 0) / "config.json").read_text())
    check(llama["num_key_value_heads"] == 2 and llama["intermediate_size"] == FF and llama["head_dim"] == 2
          and "rope_scaling" not in llama and llama["rope_theta"] == 10000, llama)


def cases(long):
    return [Case(f"layouts-{family}", layouts, family, heavy=True) for family in MESHES] + [
        *[Case(f"transformers-{family}", published.both_ways, family, heavy=True) for family in published.OPTIONS],
        *[Case(f"initial-{family}", initial, family) for family in MESHES], Case("half_precision", half_precision),
        Case("several_files", several_files), Case("names", names), Case("mistakes", mistakes), Case("config", config)]
