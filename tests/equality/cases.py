"""Equality of plans: N devices against one device with the same micro-batches.

f64: losses, evaluation and final weights within 1e-9; f32: losses within 1e-5; plans with only a pp axis: to the bit,
checkpoint files included. Where batch norm is that of a replica's micro-batch, one device has as many groups of samples:
dp times the micro-batches. The short run takes a pairwise sample of plans, the long run the whole matrix; so for language models,
with dropout, and with their residual stream split over tp or not.
"""
import itertools
import json
import re
import shutil

import numpy

from lib import safetensors, specs
from lib.harness import (FASHION, ROOT, WORK, Case, Failure, check, compare_numbers, compare_tensors, explain, fold,
                         locked)
from lib.pairwise import sample

STEPS = 20
LOSS_TOLERANCE = {"f64": 1e-9, "f32": 1e-5}
SCHEDULES, MICROBATCHES, DTYPES = ("1F1B", "GPipe"), (1, 2, 4, 8), ("f64", "f32")
SHORT_MESHES = [(2, 2, 2), (1, 1, 2), (1, 4, 1), (1, 1, 4), (4, 1, 1), (1, 2, 2), (2, 1, 4), (1, 3, 1), (3, 1, 2), (1, 2, 4)]
MEMORY_LINE = re.compile(r"^memory: rank (\d+) allocates (\d+) bytes$", re.M)


def meshes(most):
    """Every (dp, tp, pp) of 2 to `most` devices."""
    sizes = range(1, most + 1)
    return [m for m in itertools.product(sizes, sizes, sizes) if 2 <= m[0] * m[1] * m[2] <= most]


def plans(some_specs, some_meshes):
    """Rows (spec, mesh, schedule, microbatches, dtype). Without stages there is one schedule, without tp nothing to split over it."""
    rows = itertools.product(some_specs, some_meshes, SCHEDULES, MICROBATCHES, DTYPES)
    return [row for row in rows if row[0].trains(row[1], row[4]) and (row[1][2] > 1 or row[2] == "1F1B")
            and (row[1][1] > 1 or row[0].plain is row[0])]


def language_values(row):
    """What a plan of a language model is made of: its family, the model, whether its stream is split over tp, and the axes apart."""
    spec, mesh, schedule, microbatches, dtype = row
    return (spec.path.stem, spec.plain.name, spec.plain is spec, mesh, schedule if mesh[2] > 1 else "no stages", mesh[1] > 1,
            microbatches, dtype)


def short_language_plans():
    """Every family with its stream split and not, by either schedule and in either type; two that only pipeline."""
    rows = [row for row in plans(specs.LANGUAGE, SHORT_MESHES) if row[3] in (2, 4)]
    chosen = sample(rows, 9, language_values)
    missed = [want for want in itertools.product(("gpt2", "llama"), (True, False), SCHEDULES)
              if want not in [(row[0].path.stem, row[0].plain is row[0], row[2]) for row in chosen if row[1][2] > 1]]
    chosen += [next(row for row in rows if (row[0].path.stem, row[0].plain is row[0], row[2]) == want and min(row[1][1:]) > 1)
               for want in missed]
    alone = [row for row in rows if row[1][:2] == (1, 1) and row not in chosen]
    return chosen + sample(alone, max(0, 2 - sum(row[1][:2] == (1, 1) for row in chosen)), language_values)


def short_plans():
    """Models with batch norm apart, so that these are met by every mesh too; so are language models."""
    rows = plans(specs.SPECS, SHORT_MESHES)
    return sample([row for row in rows if not row[0].statistics], 16) + sample([row for row in rows if row[0].statistics], 8) \
        + short_language_plans()


def training_words(spec):
    return ["--data", spec.data, "--seed", 3] + (["--eval", spec.data] if spec.data == FASHION or spec.statistics or spec.ids else [])


def check_memory(program, training):
    """What the program counted is what the plan says."""
    counted = {int(rank): int(size) for rank, size in MEMORY_LINE.findall(training.stdout)}
    planned = {device["rank"]: device["arena"] for device in program.plan["devices"]}
    check(counted == planned, f"allocated {counted}, planned {planned}")


def check_saved(program, mesh, schedule, microbatches):
    saved = [stage["saved_microbatches"] for stage in program.plan["stages"]]
    stages = mesh[2]
    expected = [min(stages - i, microbatches) if schedule == "1F1B" else microbatches for i in range(stages)]
    check(saved == expected, f"saved micro-batches {saved}, not {expected}")


def check_bitwise(actual, expected):
    check(actual.loss_texts == expected.loss_texts, "losses differ: " + next(
        (f"{a} and {e}" for a, e in zip(actual.loss_texts, expected.loss_texts) if a != e), "another number of them"))
    a, e = actual.checkpoint_bytes(), expected.checkpoint_bytes()
    check(sorted(a) == sorted(e), f"checkpoint files {sorted(a)}, not {sorted(e)}")
    for name in e:
        check(a[name] == e[name], f"{name} of the checkpoints differs")


def compare_trainings(actual, expected, dtype, bitwise):
    compare_numbers("loss of step", actual.losses, expected.losses, LOSS_TOLERANCE[dtype])
    compare_numbers("norm of step", actual.norms, expected.norms, {"f64": 1e-9, "f32": 1e-3}[dtype])
    evaluated = [[line[key] for line in run.evaluations for key in ("eval_loss", "eval_accuracy") if key in line]
                 for run in (actual, expected)]
    if dtype == "f64":
        compare_numbers("evaluation", *evaluated, 1e-9)
        compare_tensors(actual.weights, expected.weights, 1e-9)
    if bitwise:
        check_bitwise(actual, expected)


def reference(spec, batch, microbatches, dtype):
    """The run of one device, which several plans are compared with; its losses fall."""
    spec = spec.plain
    program = specs.program(spec, (1, 1, 1), microbatches, dtype, batch=batch)
    training = program.train_once("reference", STEPS, *training_words(spec))
    check(numpy.mean(training.losses[-4:]) < numpy.mean(training.losses[:4]),
          f"the losses of one device do not fall: {training.losses}")
    check_memory(program, training)
    return training


def equal_plan(spec, mesh, schedule, microbatches, dtype, keep=True):
    batch = specs.batch_of(mesh[0], microbatches)
    program = specs.program(spec, mesh, microbatches, dtype, "--schedule", schedule)
    training = program.train("plan", STEPS, *training_words(spec))
    check_memory(program, training)
    check_saved(program, mesh, schedule, microbatches)
    one = reference(spec, batch, spec.same_microbatches(mesh, microbatches), dtype)
    compare_trainings(training, one, dtype, bitwise=mesh[:2] == (1, 1))
    if not keep:
        program.remove()


# ---------------------------------------------------------------------------------------------------------
# Heads that make their logits chunk by chunk

def chunked(spec, mesh, schedule, microbatches, dtype, *more):
    """Against the whole head on one device within rounding, and stages alone against chunks on one device to the bit."""
    batch = specs.batch_of(mesh[0], microbatches)
    program = specs.program(spec, mesh, microbatches, dtype, "--schedule", schedule, *more)
    check("chunk < 4" in (program.folder / f"program_{mesh[2] - 1}.cu").read_text(), "the last stage has no loop over chunks")
    training = program.train("plan", STEPS, *training_words(spec))
    check_memory(program, training)
    compare_trainings(training, reference(spec, batch, microbatches, dtype), dtype, bitwise=False)
    if mesh[:2] == (1, 1) and mesh[2] > 1:
        one = specs.program(spec, (1, 1, 1), microbatches, dtype, batch=batch).train("plan", STEPS, *training_words(spec))
        compare_trainings(training, one, dtype, bitwise=True)


def chunked_memory():
    """LLaMA 1.5B in 8 chunks needs as many bytes less as all logits have."""
    whole, parts = (explain(ROOT / "specs/llama.lua", "-D", "tied=false", "--batch", 4, "--dtype", "bf16", "-D", f"loss_chunks={n}")["devices"][0]
                    for n in (1, 8))
    logits = 4 * 2048 * 128256 * 2
    for kind in ("activations", "arena"):
        check(whole[kind] - parts[kind] == logits, f"{kind}: {whole[kind]} and {parts[kind]}, the logits have {logits}")


def chunked_rows(long):
    """Tied and untied heads; tp that divides the vocabulary and that does not, stages, replicas, split sequences, all axes."""
    if long:
        some = [(1, 1, 1), *meshes(8)]
        return [(spec, mesh, schedule, m, "f64") for spec, mesh, schedule, m in itertools.product(specs.CHUNKED, some, SCHEDULES, (1, 4))
                if spec.takes(mesh) and (mesh[2] > 1 or schedule == "1F1B")]
    gpt, split, llama, of_3 = specs.CHUNKED
    return [(gpt, (1, 1, 1), "1F1B", 1, "f64"), (gpt, (1, 1, 4), "GPipe", 4, "f64"), (gpt, (2, 2, 2), "1F1B", 2, "f64"),
            (split, (1, 4, 2), "1F1B", 2, "f64"), (of_3, (1, 3, 1), "1F1B", 2, "f64"), (llama, (2, 2, 1), "1F1B", 4, "f32"),
            (llama, (1, 1, 2), "1F1B", 4, "f32")]


# ---------------------------------------------------------------------------------------------------------
# Gradients where activations were

SHARED = [("uneven", (1, 3, 1), "f64"), ("adamw", (2, 2, 1), "f64"), ("gpt2", (1, 1, 1), "f32"), ("gpt2_of_3_sequences", (1, 3, 1), "f64"),
          ("llama_tied", (2, 1, 1), "f64"), ("gpt2_chunked", (1, 2, 1), "f64"), ("convnet", (1, 1, 1), "f64"), ("resnet", (3, 1, 1), "f64"),
          ("drops", (2, 1, 1), "f64"), ("heads", (1, 2, 1), "f64"), ("layers_odd", (1, 1, 1), "f64"), ("images", (1, 2, 1), "f64")]


def shared(name, mesh, dtype):
    """With one micro-batch and no side stream, which a device that launches in no time has no use for, against a plan that shares nothing."""
    spec = next(spec for spec in specs.SPECS + specs.LANGUAGE + specs.CHUNKED if spec.name == name)
    program = specs.program(spec, mesh, 1, dtype, *SLOW_LINKS)
    check(program.plan["devices"][0]["shared"] > 0, "gradients have bytes of their own")
    training = program.train("plan", STEPS, *training_words(spec))
    check_memory(program, training)
    compare_trainings(training, reference(spec, specs.batch_of(mesh[0], 1), spec.same_microbatches(mesh, 1), dtype), dtype, bitwise=mesh == (1, 1, 1))


# ---------------------------------------------------------------------------------------------------------
# Tables that are looked up and read elsewhere too

TIED = [("gpt2", (1, 1, 2), "1F1B", 1), ("gpt2", (2, 1, 1), "1F1B", 1), ("llama_tied", (1, 2, 1), "1F1B", 1), ("gpt2", (1, 1, 1), "1F1B", 2),
        ("gpt2_chunked", (1, 1, 2), "1F1B", 1)]


def tied(name, mesh, schedule, microbatches):
    """With one micro-batch and both on one stage, look-ups are added onto the rest of the gradient: to the bit what two stages add up."""
    spec = next(spec for spec in specs.LANGUAGE + specs.CHUNKED if spec.name == name)
    program = specs.program(spec, mesh, microbatches, "f64", "--schedule", schedule)
    onto = re.search(r"\tembedding_grad\(.*, true, r->", (program.folder / "program_0.cu").read_text())
    check(bool(onto) == (mesh[2] == 1 and microbatches == 1), f"look-ups are added onto {onto and onto[0]}")
    one = specs.program(spec, (1, 1, 1), microbatches, "f64", batch=specs.batch_of(mesh[0], microbatches)).train_once("tied", STEPS, *training_words(spec))
    compare_trainings(program.train("tied", STEPS, *training_words(spec)), one, "f64", bitwise=mesh[:2] == (1, 1))


LARGE_TABLES = [("gpt2_large", (2, 1, 1), 1), ("gpt2_large", (4, 1, 2), 2), ("llama_large", (2, 1, 1), 2), ("llama_sequences_large", (2, 2, 1), 1)]


def large_tables(name, mesh, microbatches):
    """Replicas gather the rows of a large table's gradient, and each adds up those of all."""
    spec = next(spec for spec in specs.LARGE_TABLES if spec.name == name)
    program = specs.program(spec, mesh, microbatches, "f64")
    check(re.search(r"\tembedding_grad\(.*_all_gather", (program.folder / "program_0.cu").read_text()), "no rows of a table are gathered")
    onto = re.search(r"\tembedding_grad\(.*, true, r->", (program.folder / "program_0.cu").read_text())
    check(bool(onto) == (name == "gpt2_large" and mesh[2] == 1), f"look-ups are added onto {onto and onto[0]}")
    training = program.train("rows", STEPS, *training_words(spec))
    check_memory(program, training)
    compare_trainings(training, reference(spec, specs.batch_of(mesh[0], microbatches), microbatches, "f64"), "f64", bitwise=False)


# ---------------------------------------------------------------------------------------------------------
# Products in parts

SLOW_LINKS = ["--device", ROOT / "tests/lib/slow_links.json"]      # even products of small models are taken apart then
SLOW_NCCL = ["--device", ROOT / "tests/lib/slow_nccl.json"]        # which copy engines do not take
SPLIT = {spec.name: spec for spec in specs.LANGUAGE}
APART = [(specs.SEQUENCES, (1, 2, 1), "1F1B", 2, "f64"), (specs.SEQUENCES, (2, 4, 1), "1F1B", 1, "f64"),
         (specs.SEQUENCES, (1, 2, 2), "GPipe", 4, "f32"), (SPLIT["gpt2_sequences"], (1, 2, 1), "1F1B", 2, "f64"),
         (SPLIT["llama_sequences"], (1, 2, 2), "1F1B", 2, "f64"), (SPLIT["gpt2_sequences"], (1, 4, 1), "1F1B", 1, "f64")]


def apart(device, spec, mesh, schedule, microbatches, dtype):
    """Products that are scattered over tp, and those of what it gathers, in parts of rows, against one device, and how many bytes they move;
    what is computed row by row in pieces."""
    program = specs.program(spec, mesh, microbatches, dtype, "--schedule", schedule, *device)
    text = "".join((program.folder / f"program_{stage}.cu").read_text() for stage in range(mesh[2]))
    for k in range(1, mesh[1]):
        check(re.search(rf"mp_gemm\(.*\(r->tp \+ {k}\) % {mesh[1]} \* \d+L, \w+\(r", text), f"no product is scattered that computes the rows of the device {k} behind")
        check(re.search(rf"mp_gemm.*\(r->tp \+ {k}\) % {mesh[1]} \* \d+L, (false, )?r->compute", text), f"no product of what is gathered computes those rows")
    worth_it = spec is not specs.SEQUENCES or mesh[2] == 1     # stages of so little gain nothing
    for what in (r" \. .* -> ", "(layer|rms)_norm ", "add ", "all_gather ", "shift "):
        check(worth_it == bool(re.search(rf"// \S*piece_2: .*{what}.*, piece 2 of 2\n", text)), f"is {what!r} done in pieces?")
    training = program.train("plan", STEPS, *training_words(spec))
    check_memory(program, training)
    compare_trainings(training, reference(spec, specs.batch_of(mesh[0], microbatches), spec.same_microbatches(mesh, microbatches), dtype), dtype,
                      bitwise=False)


# ---------------------------------------------------------------------------------------------------------
# Recomputation

def recomputed(spec, kind, mesh, schedule, microbatches, dtype, *more):
    """What the backward pass makes again changes no bit, and fewer bytes are kept."""
    words = ["--schedule", schedule, *more]
    kept = specs.program(spec, mesh, microbatches, dtype, *words)
    again = specs.program(spec, mesh, microbatches, dtype, *words, "--recompute", kind)
    bytes_of = [sum(device["activations"] for device in program.plan["devices"]) for program in (kept, again)]
    check(bytes_of[1] < bytes_of[0], f"--recompute {kind} keeps {bytes_of[1]} bytes, without it are {bytes_of[0]}")
    if mesh[1] > 1 and "--sequence-parallel" in spec.words:
        texts = ["".join((program.folder / f"program_{stage}.cu").read_text() for stage in range(mesh[2])) for program in (kept, again)]
        gathers = [len(re.findall(r"// \S*norm\.all_gather(?:\.again)?(?:\.piece_\d)?: all_gather", text)) for text in texts]
        check(gathers[0] < gathers[1], f"{gathers[0]} gathers of norms are emitted, with --recompute {kind} {gathers[1]}")
    trained = [program.train("plan", STEPS, *training_words(spec)) for program in (kept, again)]
    check_memory(again, trained[1])
    compare_trainings(trained[1], trained[0], dtype, bitwise=True)


def recomputed_rows():
    """Blocks with norms, dropout, attention, rotary heads, gates, GELU behind products; shards, sequence-parallel rows, stages."""
    of_tokens = ["vocab=45", "context=8", "layers=3", "heads=4", "width=32", "dropout=0.2"]
    gpt = specs.Spec("gpt2", "specs/gpt2.lua", 5, True, "synthetic", None, *of_tokens, ids=45)
    llama = specs.Spec("llama", "specs/llama.lua", 5, True, "synthetic", None, *of_tokens, "kv_heads=2", "ff=48", ids=45,
                       words=["--sequence-parallel"])
    named = {spec.name: spec for spec in specs.SPECS}
    meshes_of = [((1, 1, 1), "1F1B", 1, "f64"), ((1, 1, 2), "1F1B", 4, "f32"), ((2, 2, 2), "1F1B", 4, "f64")]
    rows = [(spec, kind, *plan) for spec in (gpt, llama) for kind in ("selective", "full") for plan in meshes_of]
    rows.append((next(spec for spec in specs.CHUNKED if spec.name == "gpt2_chunked"), "full", (1, 2, 2), "1F1B", 4, "f64"))
    return rows + [(named["gelus"], "full", (1, 2, 2), "GPipe", 2, "f64"), (named["layers"], "selective", (1, 1, 2), "1F1B", 4, "f32"),
                   (named["layers"], "full", (1, 1, 4), "1F1B", 4, "f32"), (named["convnet"], "selective", (1, 1, 1), "1F1B", 2, "f64")]


# ---------------------------------------------------------------------------------------------------------
# Interruption

def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def resumed(spec, mesh, other, dtype, states, *words):
    """A run of 20 steps against its second half alone, from the checkpoint of its first: to the bit on the same mesh, within
    rounding on another. states: what a checkpoint has beside each parameter that the loss reaches; words: of the first mesh alone."""
    whole = specs.program(spec, mesh, 2, dtype, *words)
    training = whole.train("whole", STEPS, "--data", spec.data, "--seed", 3, "--save-every", STEPS // 2)
    half = training.folder / "save" / f"step_{STEPS // 2}"
    saved = sorted(safetensors.read(half / "optimizer.safetensors"))
    check(saved == sorted(f"{name}.{state}" for name in training.weights for state in states if not name.startswith("unused")),
          f"optimizer state {saved}")
    for again, bitwise in ((whole, True), (specs.program(spec, other, 2, dtype), False)):
        folder = again.folder / "-".join(["run-rest-of", specs.mesh_text(mesh), *map(str, words)])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        again.run("--data", spec.data, "--seed", 3, "--load", half, "--steps", STEPS, "--log", folder / "log", "--save", folder)
        lines = lines_of(folder / "log")
        for key, expected in (("loss", training.losses), ("grad_norm", training.norms)):
            compare_numbers(key, [line[key] for line in lines], expected[STEPS // 2:], 0 if bitwise else LOSS_TOLERANCE[dtype])
        for file in "model.safetensors", "optimizer.safetensors":
            a, e = (safetensors.read(path / file) for path in (folder / f"step_{STEPS}", training.checkpoint))
            compare_tensors(a, e, 0 if bitwise else 1e-9)


# ---------------------------------------------------------------------------------------------------------
# Parameters and states that replicas store in parts

def in_parts(spec, mesh, schedule, microbatches, dtype):
    """With --zero 1, as one device and in fewer bytes of state than without; in bf16 as without, on the same mesh."""
    words = ["--schedule", schedule]
    whole, parts = (specs.program(spec, mesh, microbatches, dtype, *words, "--zero", zero) for zero in (0, 1))
    bytes_of = [sum(device["optimizer"] for device in program.plan["devices"]) for program in (whole, parts)]
    check(bytes_of[1] < bytes_of[0], f"the optimizer has {bytes_of[1]} bytes, without --zero {bytes_of[0]}")
    training = parts.train("plan", STEPS, *training_words(spec))
    check_memory(parts, training)
    if dtype == "bf16":
        compare_numbers("loss of step", training.losses, whole.train("plan", STEPS, *training_words(spec)).losses, 1e-4)
    else:
        one = reference(spec, specs.batch_of(mesh[0], microbatches), spec.same_microbatches(mesh, microbatches), dtype)
        compare_trainings(training, one, dtype, bitwise=False)


def in_parts_rows(long):
    """First dims that divide and that do not, or that tp has; tied and untied heads, whole and in chunks; filters; a weight of two stages."""
    named = {spec.name: spec for spec in specs.SPECS + specs.LANGUAGE + specs.CHUNKED + specs.LARGE_TABLES}
    rows = [("uneven", (3, 1, 2), 2, "f64"), ("adamw", (2, 2, 2), 2, "f64"), ("momentum", (2, 1, 1), 4, "f32"), ("gpt2", (2, 1, 1), 1, "f64"),
            ("gpt2", (2, 1, 1), 2, "bf16"), ("gpt2_sequences", (2, 2, 2), 2, "f64"), ("gpt2_chunked", (2, 1, 2), 2, "f64")]
    more = [("gpt2", (2, 1, 2), 4, "f64"), ("llama", (2, 2, 1), 2, "f64"), ("uneven", (2, 2, 1), 1, "f64"), ("adamw", (4, 1, 1), 1, "f64"),
            ("resnet_sync", (2, 2, 1), 1, "f64"), ("gpt2", (3, 1, 1), 1, "f64"), ("llama_large", (2, 1, 1), 1, "f64"), ("gpt2_large", (2, 1, 1), 1, "f64"), ("gpt2_chunked", (2, 1, 1), 1, "bf16")]
    return [(named[name], mesh, "1F1B", microbatches, dtype) for name, mesh, microbatches, dtype in (rows + more if long else rows)]


# ---------------------------------------------------------------------------------------------------------
# Inference

def inference_data(spec, samples):
    """A file of so many samples, a number that no batch divides. Labels are not needed."""
    path = WORK / "data" / f"{spec.name}-{samples}.safetensors"
    with locked(path.with_suffix(".lock")):
        random = numpy.random.default_rng(5)
        tensors = {n: random.integers(0, spec.ids, [samples, *shape], "i4") if spec.ids else random.random([samples, *shape], "f4")
                   for n, shape in spec.inputs.items()}
        safetensors.write(path, tensors)
    return path


def infer(spec, mesh, microbatches, dtype, weights):
    program = specs.program(spec, mesh, microbatches, dtype, "--mode", "infer", batch=specs.BATCH)
    output = program.folder / f"output-{fold(specs.mesh_text(mesh))}.safetensors"
    with locked(output.with_suffix(".lock")):
        program.run("--data", inference_data(spec, 150), "--load", weights, "--output", output)
        return safetensors.read(output)


def equal_outputs(spec, mesh, microbatches, dtype):
    weights = reference(spec, specs.BATCH, 2, dtype).checkpoint
    expected = infer(spec, (1, 1, 1), 1, dtype, weights)
    check(all(len(tensor) == 150 for tensor in expected.values()), "not as many outputs as samples")
    check(all(abs(tensor).max() > 0 for tensor in expected.values()), "an output is zero everywhere")
    compare_tensors(infer(spec, mesh, microbatches, dtype, weights), expected, {"f64": 1e-9, "f32": 2e-5}[dtype])


# ---------------------------------------------------------------------------------------------------------

def halved_parameters(spec):
    """tp=2 holds at most 0.6 of the parameter bytes of tp=1."""
    one, two = (explain(spec.path, *spec.define, "--mesh", mesh)["devices"][0]["parameters"] for mesh in ("1", "tp=2"))
    check(0.5 * one <= two <= 0.6 * one, f"{two} bytes of parameters on tp=2, {one} on tp=1: {two / one:.3f}")


def name_of(row):
    spec, mesh, schedule, microbatches, dtype = row
    return f"{spec}-{dtype}-{specs.mesh_text(mesh)}-{schedule}-m{microbatches}"


def inference_rows(long):
    rows = [(spec, mesh, m, dtype) for spec, mesh, m, dtype in itertools.product(
        specs.SPECS, meshes(8) if long else SHORT_MESHES, (1, 2, 4), DTYPES) if spec.takes(mesh) and 64 % (mesh[0] * m) == 0]
    fixed = [(specs.CLASS_SHARDS, (1, 2, 1), 1, "f64"), (specs.SEQUENCES, (1, 3, 2), 2, "f64")]
    return fixed + [row for row in (rows if long else sample(rows, 12)) if row not in fixed]


# The norm of all gradients: stages alone to the bit, a shared parameter among them; shards, padded ones too; all axes.
ADAMW = next(spec for spec in specs.SPECS if spec.name == "adamw")
OPTIMIZED = [(ADAMW, mesh, schedule, microbatches, dtype) for mesh, schedule, microbatches, dtype in (
    ((1, 1, 2), "1F1B", 2, "f32"), ((1, 1, 4), "GPipe", 4, "f64"), ((1, 3, 1), "1F1B", 1, "f64"), ((2, 2, 2), "1F1B", 2, "f64"),
    ((4, 1, 1), "1F1B", 1, "f32"))]

# Several tensors cross a cut each way, at once or in turn; some in evaluations only.
ATTENDS = next(spec for spec in specs.SPECS if spec.name == "attends")
MESSAGES = [(ATTENDS, (1, 1, 2), "1F1B", 1, "f64"), (ATTENDS, (1, 1, 3), "1F1B", 4, "f32"), (specs.EVALUATED, (1, 1, 3), "1F1B", 4, "f64"),
            (specs.LOGITS, (1, 1, 3), "1F1B", 4, "f64"), (specs.LOGITS, (2, 1, 2), "GPipe", 2, "f64")]


def cases(long):
    rows = plans(specs.SPECS + specs.LANGUAGE, meshes(8)) if long else short_plans()
    rows.append((specs.NORM_OF_SAMPLES, (1, 2, 1), "1F1B", 1, "f64"))
    rows += [(specs.BIASES, mesh, "1F1B", microbatches, dtype) for mesh, microbatches, dtype in (
        ((1, 1, 3), 2, "f32"), ((1, 2, 1), 2, "f64"), ((2, 1, 1), 1, "f64"), ((2, 2, 2), 1, "f64"))]
    rows += [row for row in OPTIMIZED if row not in rows]
    tokens = [(specs.SEQUENCES, (1, 2, 1)), (specs.SEQUENCES, (2, 2, 2)), (specs.SEQUENCES, (1, 3, 1)), (specs.VOCABULARY, (1, 3, 2))]
    rows += [row for spec, mesh in tokens if (row := (spec, mesh, "1F1B", 2, "f64")) not in rows]
    rows += [row for row in MESSAGES if row not in rows]
    found = [Case(name_of(row), equal_plan, *row, not long) for row in rows]
    found += [Case(f"infer-{spec}-{dtype}-{specs.mesh_text(mesh)}-m{m}", equal_outputs, spec, mesh, m, dtype)
              for spec, mesh, m, dtype in inference_rows(long)]
    found += [Case(f"resumed-{ADAMW}-{specs.mesh_text(mesh)}", resumed, ADAMW, mesh, other, "f64", ("exp_avg", "exp_avg_sq"))
              for mesh, other in (((1, 1, 1), (1, 2, 2)), ((2, 1, 2), (1, 3, 1)))]
    found += [Case(f"resumed-zero-{ADAMW}-{specs.mesh_text(mesh)}", resumed, ADAMW, mesh, other, "f64", ("exp_avg", "exp_avg_sq"), "--zero", 1)
              for mesh, other in (((2, 1, 2), (1, 3, 1)), ((2, 2, 1), (1, 1, 1)))[:2 if long else 1]]
    found += [Case(f"zero-{name_of(row)}", in_parts, *row) for row in in_parts_rows(long)]
    found.append(Case("chunked-memory", chunked_memory))
    found += [Case(f"chunked-{name_of(row)}", chunked, *row) for row in chunked_rows(long)]
    found += [Case(f"shared-{name}-{specs.mesh_text(mesh)}-{dtype}", shared, name, mesh, dtype) for name, mesh, dtype in SHARED]
    found += [Case(f"tied-{name}-{specs.mesh_text(plan[0])}-m{plan[2]}", tied, name, *plan) for name, *plan in TIED]
    found += [Case(f"large-tables-{name}-{specs.mesh_text(plan[0])}-m{plan[1]}", large_tables, name, *plan) for name, *plan in LARGE_TABLES if long or plan[0][0] < 4]
    found += [Case(f"apart-{name_of(row)}", apart, SLOW_LINKS, *row) for row in APART]
    found += [Case(f"apart-by-nccl-{name_of(row)}", apart, SLOW_NCCL, *row) for row in APART[1:2]]
    found += [Case(f"recomputed-{kind}-{name_of((spec, *plan))}", recomputed, spec, kind, *plan) for spec, kind, *plan in recomputed_rows()]
    found += [Case(f"recomputed-full-apart-{name_of((spec, *plan))}", recomputed, spec, "full", *plan, *SLOW_LINKS) for spec, *plan in APART[3:5]]
    return found + [Case(f"halved-{spec}", halved_parameters, spec) for spec in specs.SPECS[:4]]
