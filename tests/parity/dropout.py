"""Dropout: which elements are kept is not PyTorch's choice, but its laws hold. dropout.lua is linear in its gains and its
inputs are ones, so that what a step with a gradient of 1 takes from a gain is what was kept of its element, scaled."""
import itertools

import numpy

from files import exchange
from lib import safetensors
from lib.harness import ROOT, Case, Program, check, compare_tensors

WIDTH, STEPS = 4096, 3
RATES = {"first": 0.25, "second": 0.5}
SIGMAS = 5 / WIDTH ** 0.5       # of a share of elements: at most a half of a standard deviation of 1 each


def masks(seed, samples):
    """{(layer, step): how many of the samples kept each element}."""
    program = Program(ROOT / "tests/parity/dropout.lua", "--dtype", "f64", "--mesh", "1", "--batch", samples)
    data, _ = exchange("dropout", lambda: {"x": numpy.ones([8, WIDTH], "f4")})
    run = program.train(f"seed-{seed}", STEPS, "--data", data, "--order", "file", "--seed", seed, "--save-every", 1)
    saved = [safetensors.read(run.checkpoint.parent / f"step_{step}/model.safetensors") for step in range(1, STEPS + 1)]
    found = {}
    for layer, rate in RATES.items():
        for step, (before, after) in enumerate(zip([{layer: numpy.ones(WIDTH)}, *saved], saved), 1):
            kept = (before[layer] - after[layer]) * (1 - rate) * samples
            check(abs(kept - kept.round()).max() < 1e-9, f"{layer}, step {step}: what is kept is not divided by {1 - rate}")
            found[layer, step] = kept.round().astype(int)
    return found


def close(what, share, expected):
    check(abs(share - expected) < SIGMAS, f"{what}: {share:.4f} of the elements, not about {expected:.4f}")


def law():
    """Each element, sample, step, layer and seed is drawn for itself."""
    drawn = {(*which, seed): kept for seed in (1, 2) for which, kept in masks(seed, 1).items()}
    for (layer, *which), kept in drawn.items():
        close(f"{layer} {which}", kept.mean(), 1 - RATES[layer])
        close(f"{layer} {which} and its neighbour", (kept[1:] * kept[:-1]).mean(), (1 - RATES[layer]) ** 2)
    for a, b in itertools.combinations(drawn, 2):
        close(f"{a} and {b}", (drawn[a] * drawn[b]).mean(), (1 - RATES[a[0]]) * (1 - RATES[b[0]]))
    for (layer, step), kept in masks(1, 2).items():
        close(f"one of two samples, {layer}", (kept == 1).mean(), 2 * RATES[layer] * (1 - RATES[layer]))
        check((kept >= drawn[layer, step, 1]).all(), f"{layer}, step {step}: sample 0 of a larger batch keeps other elements")


def identity():
    """Inference keeps everything."""
    program = Program(ROOT / "tests/parity/dropout.lua", "--dtype", "f64", "--mesh", "1", "--mode", "infer")
    values = numpy.random.default_rng(2).normal(size=[8, WIDTH])
    data, _ = exchange("dropout-values", lambda: {"x": values})
    weights, gains = exchange("dropout-gains", lambda: {layer: numpy.full(WIDTH, 1 + rate) for layer, rate in RATES.items()})
    output = program.folder / "output.safetensors"
    program.run("--data", data, "--load", weights, "--output", output)
    compare_tensors(safetensors.read(output), {layer: values * gain for layer, gain in gains.items()}, 1e-15)


def evaluation():
    """Evaluation while training keeps every weight of attention; a step does not."""
    runs = []
    for rate in (0.0, 0.3):
        program = Program(ROOT / "tests/equality/attends.lua", "--dtype", "f64", "--mesh", "1", "-D", f"dropout={rate}")
        start = program.train("start", 0, "--data", "synthetic", "--eval", "synthetic")
        runs.append((start.evaluations[0]["eval_loss"], program.train("step", 1, "--data", "synthetic").losses[0]))
    (plain, first), (dropped, other) = runs
    check(plain == dropped, f"evaluated with dropout: {dropped}, not {plain}")
    check(abs(first - other) > 1e-4 * abs(first), f"the loss of a step is {other} with dropout and without")


def cases(long):
    return [Case("dropout-law", law), Case("dropout-identity", identity), Case("dropout-evaluation", evaluation)]
