"""Properties of plans of random models: schedules, messages, addresses.

A seed gives a model of many blocks with branches that skip some of them, and a number of stages, of micro-batches and a
schedule. What is emitted for it is then run on paper (simulate.py): every F and B once and in order, sends meet receives
without buffering, and no live buffer is overwritten.
"""
import json
import random
import shutil

from lib.harness import WORK, Case, check, mpgen
from plan import properties, simulate

HEAD = """-- A model of random width and branches.
local nn = require "nn"

local function forward(t)
  local h0 = t.x
"""
TAIL = """  local d = h%d - t.y
  return { loss = mp.mean(d * d), outputs = { y = h%d } }
end

return mp.program {
  forward = forward, data = mp.tensors { x = { "f32", %d }, y = { "f32", %d } }, batch = 64, mesh = {},
  optimizer = mp.sgd { lr = 0.01, momentum = %g },
}
"""


def model(pick, blocks):
    """Lua text; all widths that meet in a branch are equal, others vary."""
    width = pick.choice([3, 8, 20])
    lines, shard = [], ["", ', { shard = "column" }', ', { shard = "row" }']
    for k in range(1, blocks + 1):
        branch = f" + h{pick.randrange(k)}" if pick.random() < 0.5 else ""
        inner = f'nn.linear("in{k}", h{k - 1}, {pick.randrange(2, 30)}{pick.choice(shard)})'
        act = pick.choice(["nn.relu", "nn.gelu", "nn.softmax", ""])
        lines.append(f'  local h{k} = mp.block("b{k}", function()')
        lines.append(f'    return nn.linear("out", {act}({inner}), {width}){branch}')
        lines.append("  end)")
    return HEAD + "\n".join(lines) + "\n" + TAIL % (blocks, blocks, width, width, pick.choice([0, 0.9]))


def plan_of(seed):
    pick = random.Random(seed)
    stages, microbatches = pick.randrange(2, 9), pick.choice([1, 2, 3, 4, 5, 8, 12])
    text = model(pick, stages + pick.randrange(4))
    schedule, dp = pick.choice(["GPipe", "1F1B"]), pick.choice([1, 1, 2])
    return text, stages, microbatches, schedule, dp, dp > 1 and pick.random() < 0.5


def random_plan(seed):
    text, stages, microbatches, schedule, dp, zero = plan_of(seed)
    folder = WORK / "plan" / f"seed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "spec.lua").write_text(text)
    options = ["--mesh", f"pp={stages},dp={dp}", "--microbatches", microbatches, "--batch", 2 * dp * microbatches, "--schedule",
               schedule, "--zero", int(zero)]
    mpgen("-q", folder / "spec.lua", *options, "-o", folder / "out")
    dump = mpgen(folder / "spec.lua", *options, "--dump", "repeat").stdout
    plan = json.loads((folder / "out/plan.json").read_text())
    program = simulate.read_plan(folder / "out", dump)
    check(len(program) == stages, f"{len(program)} programs for {stages} stages")
    for stage in program:
        simulate.check_once(stage, microbatches, schedule, stages)
    simulate.check_rendezvous(program)
    for stage in program:
        (arena,) = {d["arena"] for d in plan["devices"] if d["coordinates"]["pp"] == stage.number}
        simulate.check_memory(stage, arena, microbatches)
    shutil.rmtree(folder)


def several(seeds):
    for seed in seeds:
        print("seed", seed, plan_of(seed)[1:])
        random_plan(seed)


def cases(long):
    return [Case(f"random-{first}", several, range(first, first + 10)) for first in range(0, 600 if long else 60, 10)] \
        + properties.cases(long)
