"""Programs in bf16: near those in f32, and the same bits however stages are cut.

The weights of both start with the same f32 values. What bf16 may differ by is a few of its roundings, 2^-9 each, in every
layer; a wrong type anywhere shows as much more.
"""
import numpy

from lib import safetensors, specs
from lib.harness import Case, check

STEPS, TOLERANCE, OF_WEIGHTS = 20, 0.02, 0.1
NAMES = ("mlp", "pair", "shared_weight", "two_losses", "chains", "reuse", "attends", "attends_drops", "gelus", "rows", "vocabulary", "sequences",
         "chunks")
MORE = ("column", "row", "residual_across_cut", "uneven", "factored", "heads", "skip_many", "side_output")
MIXED = specs.Spec("mixed", "tests/bf16/mixed.lua", 5, False, "synthetic", {"x": [16]})
UNTOUCHED = specs.Spec("untouched", "tests/bf16/untouched.lua", 1, False, "synthetic", {"x": [16]})
ROUNDED = [("momentum", (1, 1, 1)), ("mlp", (2, 1, 1)), ("gpt2", (1, 1, 1)), ("gpt2", (2, 2, 1)), ("gpt2", (2, 1, 2), "--zero", "1")]
MESHES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2)]


def train(spec, mesh, dtype, case):
    return specs.program(spec, mesh, 2, dtype).train(f"bf16-{case}", STEPS, "--data", spec.data, "--seed", 3)


def near(spec, mesh):
    case = f"near-{specs.mesh_text(mesh)}"
    full, half = train(spec, (1, 1, 1), "f32", case), train(spec, mesh, "bf16", case)
    for step, (a, b) in enumerate(zip(full.losses, half.losses), 1):
        check(abs(a - b) <= TOLERANCE * max(1, abs(a)), f"step {step}: the loss is {b} in bf16 and {a} in f32")
    check(full.losses != half.losses, "the losses are those of f32")
    for name, w in half.weights.items():
        check(w.dtype == numpy.float32, f"{name} is saved as {w.dtype}")
        distance = numpy.linalg.norm(w - full.weights[name]) / max(1e-3, numpy.linalg.norm(full.weights[name]))
        check(distance < OF_WEIGHTS, f"{name}: {distance} from the weights of f32")


def bitwise(spec, stages):
    one, several = train(spec, (1, 1, 1), "bf16", "bitwise"), train(spec, (1, 1, stages), "bf16", "bitwise")
    check(one.losses == several.losses, f"losses {one.losses} and {several.losses}")
    for name, w in one.weights.items():
        check(numpy.array_equal(w, several.weights[name]), f"{name} differs")


def rounded(spec, mesh, *words):
    """Gradients of matrices in bf16: fewer bytes, the same first loss, norms and losses that differ by roundings."""
    kept, half = ((program := specs.program(spec, mesh, 1, "bf16", "--gradients", type, *words), program.train(f"gradients-{type}", STEPS, "--data", spec.data, "--seed", 3))
                  for type in ("f32", "bf16"))
    bytes_of = [sum(device["gradients"] for device in program.plan["devices"]) for program, _ in (kept, half)]
    check(bytes_of[1] < bytes_of[0], f"gradients have {bytes_of[1]} bytes, {bytes_of[0]} in f32")
    kept, half = kept[1], half[1]
    check(kept.losses[0] == half.losses[0], f"the first loss is {half.losses[0]}, {kept.losses[0]} with gradients in f32")
    check(kept.losses != half.losses, "the losses are those of gradients in f32")
    for step, (a, b) in enumerate(zip(kept.losses, half.losses), 1):
        check(abs(a - b) <= TOLERANCE / 2 * abs(a), f"step {step}: the loss is {b}, {a} with gradients in f32")
    for a, b in zip(kept.norms[:1], half.norms):
        check(0 < abs(a - b) <= 1e-3 * abs(a), f"the first norm is {b}, {a} with gradients in f32")


def untouched(spec):
    """What no update touches is saved as it began, of trained weights more than a bf16 holds."""
    full, half = train(spec, (1, 1, 1), "f32", "untouched"), train(spec, (1, 1, 1), "bf16", "untouched")
    for name, w in half.weights.items():
        same = numpy.array_equal(w, full.weights[name])
        check(same == name.startswith("left"), f"{name} is {'that' if same else 'not what it is'} of f32")
        check((w.view(numpy.uint32) & 0xffff).any(), f"{name} holds nothing but bf16")


def outputs(spec):
    """Inference writes f32."""
    program = specs.program(spec, (1, 1, 1), 1, "bf16", "--mode", "infer")
    path = program.folder / "output.safetensors"
    program.run("--data", "synthetic", "--output", path)
    for name, y in safetensors.read(path).items():
        check(y.dtype == numpy.float32 and numpy.isfinite(y).all(), f"{name} is {y.dtype}")


def cases(long):
    names = NAMES + MORE if long else NAMES
    found = [spec for spec in specs.SPECS if spec.name in names] + [MIXED]
    adamw = [spec for spec in specs.SPECS if spec.name == "adamw"]  # small gradients count as much as large ones: not near
    meshes = MESHES if long else MESHES[:1] + MESHES[-1:]
    rows = [(spec, mesh) for spec in found for mesh in meshes if spec.takes(mesh)]
    return [Case(f"near-{spec}-{specs.mesh_text(mesh)}", near, spec, mesh) for spec, mesh in rows] \
        + [Case(f"bitwise-{spec}-pp=2", bitwise, spec, 2) for spec in found + adamw if spec.blocks > 1] \
        + [Case(f"rounded-{'-'.join([name, specs.mesh_text(mesh), *words])}", rounded, next(spec for spec in specs.SPECS + specs.LANGUAGE if spec.name == name), mesh, *words)
           for name, mesh, *words in ROUNDED] \
        + [Case("untouched", untouched, UNTOUCHED), Case("outputs", outputs, found[0])]
