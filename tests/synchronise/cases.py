"""Synchronisation of emitted code: no wait is missing, and without one the result changes.

The host stand-in can delay each operation to its latest legal moment (MP_HOST_MODE=late) or run streams in a random
order (random:SEED). A program as emitted computes the same bits in every mode. With one cudaStreamWaitEvent deleted
that orders a kernel behind the communication that it reads from, it does not: it gives other numbers, or fails.
(Waits that keep a buffer from being written too early need a bad moment to show, and are not tried here.)
"""
import json
import re

from lib.harness import ROOT, Case, Failure, Program, check, command

# In a forward or backward: compute waits for what was received or reduced, the side stream for what compute made.
FUNCTION = re.compile(r"^static void (?:forward|backward)\w*\(.*?^}\n", re.M | re.S)
LAYER = r"\t+if \(layer == \d+\)\n"
WAIT = re.compile(rf"^(?:{LAYER})?\t+CUDA\(cudaStreamWaitEvent\(r->compute, r->event\[(\w+_(?:ARRIVED|REDUCED|GATHERED))\b.*\n", re.M)
SIDE = re.compile(rf"^(?:{LAYER})?\t+CUDA\(cudaStreamWaitEvent\(r->side, r->event\[(\w+_READY)\b.*\n", re.M)
ALONE = re.compile(rf"^{LAYER}\t+CUDA\(cudaStreamWaitEvent\(r->compute, r->event\[(\w+_ARRIVED)\b.*\n", re.M)
STEPS = 4
MODES = ["late", *[f"random:{seed}" for seed in range(1, 4)]]
MORE = [f"random:{seed}" for seed in range(4, 20)]     # for what none of these shows
SPEC = ROOT / "specs/mlp.lua"
ADAMW = ROOT / "tests/equality/adamw.lua"      # with a norm of all gradients
GPT = ROOT / "specs/gpt2.lua"                  # equal layers, of which one waits for a message
LAYERS = ["-D", "layers=4", "-D", "width=32", "-D", "heads=2", "-D", "vocab=50", "-D", "context=16", "--batch", 8, "--microbatches", 4]
OPTIONS = ["-D", "width=64", "-D", "momentum=0.9", "-D", "lr=0.1", "--microbatches", 4]
MESHES = {"pp=2": 2, "dp=2,tp=2": 3, "dp=2,pp=4": 6}        # and how many such waits there are at least


def losses(program, mode):
    """The losses as texts, or what the program failed with."""
    log = program.folder / f"log-{mode.replace(':', '-')}"
    env = {"MP_HOST_MODE": mode} if mode else {}
    try:
        result = command(program.binary, "--data", "synthetic", "--steps", STEPS, "--log", log, "--timeout", 5, env=env,
                         status=None, limit=30)
    except Failure as why:
        return [str(why)]
    return re.findall(r'"loss":([^,}]*)', log.read_text()) if result.status == 0 else [result.stderr]


def waits(program, pattern):
    """[(file, begin, end, event)] of what is deleted."""
    found = []
    for file in sorted(program.folder.glob("program_*.cu")):
        text = file.read_text()
        for function in FUNCTION.finditer(text):
            found += [(file, function.start() + wait.start(), function.start() + wait.end(), wait[1])
                      for wait in pattern.finditer(function[0])]
    return found


def delete(file, begin, end):
    def edit(folder):
        text = (folder / file.name).read_text()
        (folder / file.name).write_text(text[:begin] + text[end:])
    return edit


def same_in_all_modes(mesh, spec=SPEC, options=OPTIONS):
    program = Program(spec, "--mesh", mesh, *options)
    expected = losses(program, "")
    check(len(expected) == STEPS, f"it failed: {expected}")
    for mode in ["eager", *MODES, *[f"random:{seed}" for seed in range(10, 16)]]:
        found = losses(program, mode)
        check(found == expected, f"MP_HOST_MODE={mode} gives {found}, without it {expected}")


def every_wait_counts(mesh, least, pattern, spec=SPEC, options=OPTIONS):
    program = Program(spec, "--mesh", mesh, *options)
    expected = losses(program, "late")
    sites = waits(program, pattern)
    check(len(sites) >= least, f"only {len(sites)} waits found in program_*.cu: the pattern no longer fits")
    for number, (file, begin, end, event) in enumerate(sites):
        broken = Program(spec, "--mesh", mesh, *options, edit=delete(file, begin, end), variant=f"no-{number}-{event}")
        seen = any(losses(broken, mode) != expected for mode in MODES + MORE)
        check(seen, f"{file.name} without its wait for {event} gives the same in {', '.join(MODES + MORE)}")


def overlaps(events):
    """Whether, in the events of one rank and step, a gradient's all-reduce (one of many elements) starts before the last
    weight gradient does."""
    reduces = [e["ts"] for e in events if re.match(r"ncclAllReduce \d{4,}$", e["name"])]
    kernels = [e["ts"] for e in events if re.search(r"weight\.grad$", e["name"])]
    check(len(reduces) >= 2 and len(kernels) >= 2, f"{len(reduces)} all-reduces and {len(kernels)} kernels in the trace")
    return min(reduces) < max(kernels)


def reduce_begins_early():
    """dp=2: the first gradient all-reduce starts before the last kernel of the backward. One thread runs all streams of a
    device here and may take them in another order, so that some run has to show it: none can when the program orders
    the all-reduce behind the backward."""
    program = Program(SPEC, "--mesh", "dp=2", "--microbatches", 1)
    trace = program.folder / "trace.json"
    for mode in ["eager", *[f"random:{seed}" for seed in range(12)]]:
        program.run("--data", "synthetic", "--steps", 1, "--trace", trace, env={"MP_HOST_MODE": mode})
        events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("ph") == "X"]
        ranks = {e["pid"] for e in events}
        check(ranks == {0, 1}, f"the trace holds the ranks {ranks}")
        if all([overlaps([e for e in events if e["pid"] == rank]) for rank in ranks]):
            return
    raise Failure("in no run did an all-reduce start before the last kernel of the backward")


def cases(long):
    found = [Case(f"modes-{mesh}", same_in_all_modes, mesh) for mesh in ["1", *MESHES, "dp=2,tp=2,pp=2"]]
    found += [Case(f"modes-adamw-{mesh}", same_in_all_modes, mesh, ADAMW, ["--microbatches", 2]) for mesh in ("pp=4", "dp=2,tp=2,pp=2")]
    found += [Case(f"deleted-waits-{mesh}", every_wait_counts, mesh, least, WAIT) for mesh, least in MESHES.items()]
    found.append(Case("deleted-waits-side", every_wait_counts, "1", 4, SIDE))
    found.append(Case("modes-layers-pp=2", same_in_all_modes, "pp=2", GPT, LAYERS))
    found.append(Case("deleted-waits-layers-pp=2", every_wait_counts, "pp=2", 2, ALONE, GPT, LAYERS))
    return found + [Case("reduce-begins-early", reduce_begins_early)]
