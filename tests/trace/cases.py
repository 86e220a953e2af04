"""Programs emitted with --trace-steps: the same numbers, and traces that tell of each step when it ran and what was predicted."""
import collections
import json
import re

from lib.harness import ROOT, Case, Program, check, command

STEPS, MICROBATCHES = 2, 2
GPT2 = (ROOT / "specs/gpt2.lua", "-D", "layers=3", "-D", "width=32", "-D", "heads=2", "-D", "context=16", "-D", "vocab=64", "--batch", 8,
        "--microbatches", MICROBATCHES)


def train(program, *words):
    log = program.folder / "traced.jsonl"
    program.run("--data", "synthetic", "--steps", STEPS, "--log", log, *words)
    return re.findall(r'"loss":([^,}]*)', log.read_text())


def spans_of(trace, rank):
    """[(name, stream, begin, end, predicted)] of what --trace-steps adds, and those that the stand-in for a GPU executed."""
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["pid"] == rank]
    streams = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    spans = [(e["name"], streams[e["tid"]], e["ts"], e["ts"] + e["dur"], e.get("args", {}).get("predicted_us")) for e in events if e["ph"] == "X"]
    return [span for span in spans if span[4] is not None], [span for span in spans if span[4] is None]


def begun(program, stage):
    """{name: how often its step is emitted} of one role."""
    return collections.Counter(re.findall(r'mp_step_begin\(r, "([^"]*)"', (program.folder / f"program_{stage}.cu").read_text()))


def steps_are_traced(mesh, ranks):
    """Every step that is emitted appears as often as it runs, none is empty, and none is inside of another on its stream."""
    plain, program = Program(*GPT2, "--mesh", mesh), Program(*GPT2, "--mesh", mesh, "--trace-steps")
    trace = program.folder / "trace.json"
    check("mp_step" not in (plain.folder / "program_0.cu").read_text(), "steps are marked without --trace-steps")
    check(train(plain) == train(program) == train(program, "--trace", trace), "a traced program computes something else")
    for rank, stage in ranks.items():
        steps, operations = spans_of(trace, rank)
        seen = collections.Counter(name for name, *_ in steps)
        check(set(seen) >= set(begun(program, stage)) and not set(seen) - set(begun(program, stage)), f"rank {rank} shows {sorted(seen)}")
        check(seen["update"] == STEPS and seen["h.attn.attention"] % (STEPS * MICROBATCHES) == 0, f"rank {rank}: {seen}")
        for stream in {step[1] for step in steps}:
            row = sorted(step[2:4] for step in steps if step[1] == stream)
            check(all(a[1] <= b[0] + 0.01 for a, b in zip(row, row[1:])), f"rank {rank}: steps on {stream} overlap")
        for name, stream, begin, end, predicted in steps:
            inside = sum(o[1] == stream and begin - 0.01 <= o[2] and o[3] <= end + 0.01 and not o[0].startswith("step ") for o in operations)
            check(inside and predicted > 0, f"rank {rank}: {inside} operations in {name} on {stream}, predicted {predicted} us")
    shown = command(ROOT / "tests/bench/timeline", trace, "--rows", 3).stdout.split("\n")
    check(re.match(r"rank 0: length [\d.]+, computing [\d.]+, communication [\d.]+, of it not hidden [\d.]+$", shown[0]), shown[0])


def cases(long):
    return [Case("steps-dp=2,pp=2", steps_are_traced, "dp=2,pp=2", {0: 0, 2: 1}), Case("steps-tp=2", steps_are_traced, "tp=2", {1: 0})]
