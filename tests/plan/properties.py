"""Properties of plans: schedules, memory, messages and synchronisation, of shipped specs and of random ones.

Everything is checked on what mpgen gives out: --explain=json, --dump synchronise and the emitted text. emitted.py reads
that, order.py holds the checks of happens-before, of values and of progress; none uses the generator's code.
"""
import collections
import dataclasses
import itertools
import random
import re
import shutil

from lib import specs
from lib.harness import ROOT, WORK, Case, Failure, check, explain, mpgen
from plan import dump, emitted, generate, order

SCHEDULES = ("1F1B", "GPipe")
SEQUENCE = ["train", "train", "evaluate", "evaluate", "train"]
LEAST_ARENA = 512               # of a stage that has no work
RANDOM_CASES, PLANS_A_CASE = 12, 8
FORK_AND_JOIN = ("begin_step", "end_step")
NCCL_KINDS = {"dp_comm": "dp_stream", "tp_comm": "tp_stream", "pp_comm": "pp_stream"}


class Plan:
    """A plan in all its forms: json, dump (of stages) and programs (emitted, of stages)."""

    def __init__(self, spec, mesh, microbatches, schedule, *more):
        self.mesh, self.microbatches, self.schedule = mesh, microbatches, schedule
        self.words = [spec, "--mesh", specs.mesh_text(mesh), "--batch", specs.batch_of(mesh[0], microbatches), "--microbatches",
                      microbatches, "--schedule", schedule, *more]
        self.json = explain(*self.words)
        self.dump_text = mpgen(*self.words, "--dump", "synchronise").stdout
        self.dump = dump.read(self.dump_text)
        folder = WORK / "properties" / f"{spec.stem}-{'-'.join(map(str, (*mesh, microbatches, schedule)))}{'-'.join(more)}"
        shutil.rmtree(folder, ignore_errors=True)
        mpgen("-q", *self.words, "-o", folder)
        self.programs = emitted.read(folder, mesh, self.dump)
        self.training = "infer" not in more
        sequence = SEQUENCE if self.training else ["infer", "infer"]
        self.unrolled = [order.Unrolled(program, sequence) for program in self.programs]
        self.on_last = [order.Unrolled(program, sequence, mesh[1] - 1) for program in self.programs if program.uses_rows and mesh[1] > 1]
        shutil.rmtree(folder)

    def check(self):
        check(len(self.json["stages"]) == len(self.dump) == len(self.programs) == self.mesh[2], "another number of stages")
        for s in range(self.mesh[2]):
            check_agreement(self, s)
            check_schedule(self, s)
            check_memory(self, s)
            check_synchronisation(self.unrolled[s])
        for unrolled in self.on_last:
            check_synchronisation(unrolled)
        check_messages(self)


# ---------------------------------------------------------------------------------------------------------
# Dump, plan and emitted text say the same

def when(operation):
    return ("first" if operation.condition.endswith("== 0") else "last") if "==" in operation.condition else operation.condition


def event_of(function, expression, events):
    """EVENT[argument] as the dump writes it."""
    name, _, rest = expression.partition(" + ")
    check((events[name] > 1) == bool(rest), f"{expression}: {name} has {events[name]} instances")
    argument = rest.split(" ")[0]
    check(not rest or rest == f"{argument} % {events[name]}", f"{expression}: {name} has {events[name]} instances")
    return name, function.arguments.index(argument) if rest else None


def argument_of(function, access):
    return function.arguments.index(access.slot) if access.slot in function.arguments else 0


def check_function(function, steps, events, slots):
    """The steps that the dump lists, with their waits, records and buffers, are the calls of the emitted function."""
    waits, found, at = [], [], -1
    for operation in function.operations:
        if operation.kind == "wait":
            waits.append((operation.stream, event_of(function, operation.event, events)))
        elif operation.kind == "record":
            found[-1][3].append((operation.stream, event_of(function, operation.event, events)))
        else:
            found.append((operation, when(operation), waits, []))
            waits = []
    check(len(found) == len(steps), f"{function.name}: {len(steps)} steps in the dump, {len(found)} emitted")
    for step, (operation, condition, waited, recorded) in zip(steps, found):
        what = f"{function.name}, line {operation.line}"
        check((step.stream, step.when) == (operation.stream, condition), f"{what}: {step.stream} {step.when} in the dump")
        for listed, done in ((step.waits, waited), (step.records, recorded)):
            expected = [(step.stream, re.fullmatch(r"(\w+)\[(\d)\]", text).groups()) for text in listed]
            expected = [(stream, (name, int(argument) if events[name] > 1 else None)) for stream, (name, argument) in expected]
            check(done == expected, f"{what}: {done}, in the dump {expected}")
        reads, writes = ({(a.buffer, argument_of(function, a)) for a in operation.accesses if a.write == write
                          and a.buffer not in order.WORKSPACES} for write in (False, True))
        step.reads, step.writes = ({(name, argument if slots[name] > 1 else 0) for name, argument in part}
                                   for part in (step.reads, step.writes))
        bucket = operation.call in order.REDUCES and len(step.writes) > 1 # the call names the first gradient only
        check(bucket and writes <= step.writes or (reads - writes, writes) == (step.reads - step.writes, step.writes),
              f"{what}: reads {reads} and writes {writes}; the dump says {step.reads} and {step.writes}")


def check_agreement(plan, s):
    program, stage = plan.programs[s], plan.dump[s]
    ours = {name: b[:5] for name, b in program.buffers.items() if name not in order.WORKSPACES and b.kind != "exchange"}
    check(ours == {name: b[:5] for name, b in stage.buffers.items()}, "memory.h and the dump list other buffers")
    slots = {name: buffer.slots for name, buffer in stage.buffers.items()}
    for name, function in program.functions.items():
        if name not in FORK_AND_JOIN:
            check_function(function, stage.functions.get(name, []), stage.events, slots)
    lists = {name: [action.name for action in actions] for name, actions in program.lists.items()}
    check(lists == stage.lists, "action lists in the dump and in the program differ")
    check(plan.json["schedule"][s] == {"stage": s, "actions": lists["train" if plan.training else "infer"]},
          "the plan's schedule is not the program's")
    for operation in itertools.chain(*(f.operations for f in program.functions.values())):
        inside = operation.call == "chunks" and operation.stream == "compute" # its loop gathers between its kernels
        check(not operation.communicator or inside or NCCL_KINDS[operation.communicator] == operation.stream,
              f"{operation.text}: {operation.communicator} on {operation.stream}")


# ---------------------------------------------------------------------------------------------------------
# Schedules

def compute_order(actions, s):
    """[("F", 0), …]; what else is in the list has other names."""
    found = [re.fullmatch(rf"{s}([FB])(\d+)", name) for name in actions]
    return [(match[1], int(match[2])) for match in found if match]


def check_computation(program, actions, s, m, forward_only):
    """Each micro-batch once forward and once backward, in ascending order, backward behind forward. A stage that has
    nothing to do backward (it only adds: gradients pass through) has no such action."""
    done = compute_order(actions, s)
    forward, backward = ([k for kind, k in done if kind == letter] for letter in "FB")
    check(forward == list(range(m)), f"stage {s}: forwards {forward}")
    wanted = [] if forward_only or "backward" not in program.functions else list(range(m))
    check(backward == wanted, f"stage {s}: backwards {backward}")
    for k in backward:
        check(done.index(("F", k)) < done.index(("B", k)), f"stage {s}: B{k} comes before F{k}")
    return done


def in_flight(done):
    live = list(itertools.accumulate(1 if kind == "F" else -1 for kind, _ in done))
    return max(live)


def check_schedule(plan, s):
    stage, m, p = plan.dump[s], plan.microbatches, plan.mesh[2]
    saved = plan.json["stages"][s]["saved_microbatches"]
    for name, actions in stage.lists.items():
        streams = {operation.stream for f in plan.programs[s].functions.values() for operation in f.operations}
        around = [action for action in actions if action in FORK_AND_JOIN]
        check(around == (list(FORK_AND_JOIN) if len(streams) > 1 else []) and (not around or [actions[0], actions[-1]] == around),
              f"{name} of stage {s}, with {len(streams)} streams: {actions[0]} … {actions[-1]}")
        done = check_computation(plan.programs[s], actions, s, m, name != "train")
        if name == "train":
            expected = min(p - s, m) if plan.schedule == "1F1B" else m
            live = in_flight(done) if "backward" in plan.programs[s].functions else expected
            check(live == saved == expected, f"stage {s} saves {saved} micro-batches, {live} are in flight, {expected} expected")
    check(list(stage.lists) == (["train", "evaluate"] if plan.training else ["infer"]), f"lists {list(stage.lists)}")


# ---------------------------------------------------------------------------------------------------------
# Memory

def extents(buffer):
    return [(buffer.offset + slot * buffer.stride, buffer.offset + slot * buffer.stride + buffer.bytes, buffer.name)
            for slot in range(buffer.slots)]


def check_disjoint(found):
    found = sorted(found)
    for (_, end, left), (start, _, right) in zip(found, found[1:]):
        check(end <= start, f"{left} and {right} overlap at {start}")


def uses_of(program, buffer):
    """(function, first, last): where scratch is used, by the emitted calls."""
    found = []
    for function in program.functions.values():
        steps = [operation for operation in function.operations if operation.kind == "step"]
        found += [(function.name, i) for i, step in enumerate(steps) if any(a.buffer == buffer.name for a in step.accesses)]
    functions = {name for name, _ in found}
    check(len(functions) == 1, f"scratch {buffer.name} is used in {sorted(functions)}")
    return functions.pop(), min(i for _, i in found), max(i for _, i in found)


def check_scratch(program):
    scratch = [(buffer, *uses_of(program, buffer)) for buffer in program.buffers.values() if buffer.kind == "scratch"]
    for buffer, function, first, last in scratch:
        said = (buffer.function, buffer.first, buffer.last) # of a member of a family memory.h does not say it
        check(said in ((function, first, last), (None, None, None)),
              f"memory.h says that {buffer.name} lives in {buffer.function} {buffer.first} to {buffer.last}; the code uses it in "
              f"{function} {first} to {last}")
    for (a, f, first, last), (b, g, start, end) in itertools.combinations(scratch, 2):
        if f == g and first <= end and start <= last:
            check_disjoint(extents(a) + extents(b))


def check_memory(plan, s):
    program = plan.programs[s]
    devices = [device for device in plan.json["devices"] if device["role"] == s]
    check(len(devices) == plan.mesh[0] * plan.mesh[1], f"{len(devices)} devices of stage {s}")
    kinds = ("parameters", "gradients", "optimizer", "activations", "communication", "scratch", "workspace", "exchange")
    for device in devices:
        total = max(LEAST_ARENA, sum(device[kind] for kind in kinds) - device["shared"])
        check(device["arena"] == program.arena == total, f"the arena of stage {s} is not the sum of its classes")
        check(not device["shared"] or (plan.training and plan.microbatches == 1 and plan.mesh[2] == 1), f"stage {s} shares {device['shared']} bytes")
    shared = ("gradients", "activations") if devices[0]["shared"] else () # whose values order.py looks at
    for kind in shared or [None]:
        check_disjoint(itertools.chain(*[extents(buffer) for buffer in program.buffers.values() if buffer.kind not in ("scratch", *shared) or buffer.kind == kind]))
    check_scratch(program)
    for kind in kinds:
        found = [extent for buffer in program.buffers.values() if buffer.kind == kind for extent in extents(buffer)]
        check(bool(found) == (devices[0][kind] > 0), f"{kind} of stage {s}: {devices[0][kind]} bytes of {len(found)} buffers")
        if found:
            span = max(end for _, end, _ in found) - min(start for start, _, _ in found)
            check(span <= devices[0][kind] < span + 256, f"{kind} of stage {s}: {span} bytes are used, {devices[0][kind]} are planned")
    limits = [(min(e[0] for e in found), max(e[1] for e in found), "/".join(together)) for together in [shared, *[(kind,) for kind in kinds if kind not in shared]]
              if (found := [e for b in program.buffers.values() if b.kind in together for e in extents(b)])]
    check_disjoint(limits)


# ---------------------------------------------------------------------------------------------------------
# Synchronisation and messages

def check_synchronisation(unrolled):
    """Values are right in the host's order, every conflicting pair is ordered, no wait can go."""
    stage = unrolled.program.stage
    order.check_values(unrolled)
    conflict = order.find_conflict(unrolled)
    check(conflict is None, f"stage {stage}: nothing orders {conflict}")
    for site in unrolled.sites():
        check(order.find_conflict(unrolled, without=site), f"stage {stage}: the wait in {site[0]}, line {site[1]} is redundant")


def check_messages(plan):
    """All stages come to an end together, and sends match receives; every message is of a stage that the action names."""
    delivered = order.check_progress(plan.unrolled)
    check(bool(delivered) == (plan.mesh[2] > 1), f"{len(delivered)} messages between {plan.mesh[2]} stages")
    for program in plan.programs:
        for action in itertools.chain(*program.lists.values()):
            check_action(program, action)


def check_action(program, action):
    """An action's name says what its function does, for which micro-batches."""
    function = program.functions[action.function]
    parts = [re.fullmatch(rf"{program.stage}(SEND_F|RECV_F|SEND_B|RECV_B|F|B)(\d+)", part) for part in action.name.split("+")]
    if not function.micro:
        check(parts == [None], f"{action.name} runs {action.function}")
        return
    check(all(parts), f"what is the action {action.name}?")
    microbatches = list(dict.fromkeys(int(part[2]) for part in parts))
    check(microbatches == [k for k in (action.first, action.second) if k >= 0], f"{action.name} runs for {action[2:]}")
    messages = [m for operation in function.operations for m in operation.messages]
    for verb, send in (("SEND", True), ("RECV", False)):
        check(any(m.send == send for m in messages) == any(part[1].startswith(verb) for part in parts),
              f"{action.name} runs {action.function}")
    names = {"F": "forward", "B": "backward"}
    check(messages or names[parts[0][1]] == action.function, f"{action.name} runs {action.function}")


# ---------------------------------------------------------------------------------------------------------
# Cases

def named_plans(spec, mesh, long):
    """Every schedule and the micro-batch counts of one mesh; a few of them in the short run."""
    counts = (1,) if spec.name == "factored" else range(1, 9) if long or spec.name == "mlp" else (1, 3, 6) if mesh[2] < 4 else (2, 5)
    for schedule, m in itertools.product(SCHEDULES if mesh[2] > 1 else SCHEDULES[:1], counts):
        print(f"-- {spec} {mesh} {schedule} {m} micro-batches", flush=True)
        Plan(spec.path, mesh, m, schedule, *spec.define, *spec.words).check()
    Plan(spec.path, mesh, counts[-1], "1F1B", *spec.define, *spec.words, "--mode", "infer").check()


LANGUAGE = {spec.name: spec for spec in specs.LANGUAGE}
# And whether pieces of rows are worth it there.
APART = [(specs.SEQUENCES, "slow_links", (1, 2, 1), 1, True), (specs.SEQUENCES, "slow_links", (2, 2, 2), 3, False), (specs.SEQUENCES, "slow_nccl", (1, 4, 1), 2, True),
         (LANGUAGE["gpt2_sequences"], "slow_links", (1, 4, 1), 1, True), (LANGUAGE["llama_sequences"], "slow_links", (1, 2, 2), 2, True)]


def apart(spec, device, mesh, microbatches, pieces):
    """Links so slow that products over tp are taken apart, what is computed row by row done in pieces, and gradients of weights put off."""
    for mode in ([], ["--recompute", "full"], ["--mode", "infer"]):
        plan = Plan(spec.path, mesh, microbatches, "1F1B", *spec.define, *spec.words, "--device", str(ROOT / f"tests/lib/{device}.json"), *mode)
        check(any(f"rows_{mesh[1] - 1}" in name for program in plan.programs for name in program.buffers), "no product is taken apart")
        plan.check()
        accesses = [a for program in plan.programs for function in program.functions.values() for o in function.operations for a in o.accesses]
        check(pieces == any(a.rows and a.rows.pieces > 1 for a in accesses), "what is computed in pieces of rows?")
        for program in plan.programs if not mode else []:
            sums = [o for o in program.functions["update"].operations if o.call in order.REDUCES and o.stream == "tp_stream" and "grad_norm" not in o.text]
            check(len(sums) == 1, f"behind its backward pass stage {program.stage} has {len(sums)} sums over tp, not one of all that are small")


def large_tables(spec, mesh):
    """Rows of a table's gradient are gathered over dp, and what else it gets is reduced behind the backward pass."""
    Plan(spec.path, mesh, 1, "1F1B", *spec.define, *spec.words).check()


def both_ways(program):
    """{names of a training step's actions whose group sends to a peer and receives from it: the most tensors of one direction}"""
    found = {}
    for action in program.lists["train"]:
        for operation in program.functions[action.function].operations:
            lanes = collections.Counter((m.peer, m.send) for m in operation.messages)
            if two_way := [n for (peer, send), n in lanes.items() if (peer, not send) in lanes]:
                found[action.name] = max(two_way)
    return found


def joined(program, send, receive):
    """The program with two actions of its training step, of one micro-batch, as one group."""
    actions = program.lists["train"]
    i = [action.name for action in actions].index(send)
    check(actions[i + 1].name == receive, f"{receive} does not follow {send}")
    parts = [operation for action in actions[i:i + 2] for operation in program.functions[action.function].operations if operation.kind == "step"]
    group = dataclasses.replace(parts[0], messages=[m for part in parts for m in part.messages], accesses=[a for part in parts for a in part.accesses])
    both = actions[i]._replace(name=f"{send}+{receive}", function="joined")
    return dataclasses.replace(program, functions={**program.functions, "joined": emitted.Function("joined", ("mb",), [group])},
                               lists={"train": [*actions[:i], both, *actions[i + 2:]]})


def rounds(spec, mesh, microbatches, schedule, both):
    """Several tensors cross a cut each way. A group goes both ways only where the peer has such a group too, as in the steady
    state of 1F1B; where what comes back is made of what is sent, one group for both stands still."""
    spec = next(known for known in specs.SPECS if known.name == spec)
    plan = Plan(spec.path, mesh, microbatches, schedule)
    plan.check()
    found = [both_ways(program) for program in plan.programs]
    check(max([0, *(n for names in found for n in names.values())]) == both, f"groups that send and receive: {found}")
    if microbatches == 1:
        parted = [joined(plan.programs[0], "0SEND_F0", "0RECV_B0"), *plan.programs[1:]]
        try:
            order.check_progress([order.Unrolled(program, ["train"]) for program in parted])
        except Failure as why:
            check("nothing moves any more: stage 0 at 0SEND_F0+0RECV_B0" in str(why), str(why))
        else:
            check(False, "a round is begun before the one in front has ended")


def long_steady_state(spec, mesh, microbatches):
    """Of a long steady state the generator looks at a part only, order.py at all of it."""
    spec = next(known for known in specs.SPECS if known.name == spec)
    for mode in ([], ["--mode", "infer"]):
        Plan(spec.path, mesh, microbatches, "1F1B", *spec.define, *spec.words, *mode).check()


def in_parts(name, mesh, microbatches):
    """Parameters that replicas store in parts: gathered in the first micro-batch, their gradients scattered in the last."""
    spec = next(known for known in specs.SPECS + specs.LANGUAGE + specs.CHUNKED if known.name == name)
    plan = Plan(spec.path, mesh, microbatches, "1F1B", *spec.define, *spec.words, "--zero", "1")
    plan.check()
    for what, when in (("all_gather", " first"), ("reduce_scatter", " last")):
        found = re.findall(rf"{what}\S* on dp( \w+)?:", plan.dump_text)
        check(found.count(when if microbatches > 1 else "") >= len(plan.programs), f"{what} over dp: {found}")


def rounded(name, mesh, *words):
    """Gradients of matrices in bf16: what goes over dp together has one type, and both types go."""
    spec = next(known for known in [*specs.SPECS, *specs.LANGUAGE, *specs.CHUNKED, *specs.LARGE_TABLES, specs.OFFSETS] if known.name == name)
    plan = Plan(spec.path, mesh, 1, "1F1B", *spec.define, *spec.words, "--dtype", "bf16", "--gradients", "bf16", *words)
    plan.check()
    reduced = [o.text for program in plan.programs for function in program.functions.values() for o in function.operations if o.stream == "dp_stream" and "grad" in o.text]
    found = [set(re.findall(r" (bf16|f32)\[", text)) for text in reduced]
    check(all(len(types) <= 1 for types in found) and {"bf16"} in found and {"f32"} in found, f"over dp go {reduced}")


def scratch_of_samples(name):
    """What a micro-batch needs for itself follows from its samples, not from how many micro-batches or replicas there are."""
    spec = next(known for known in specs.LANGUAGE if known.name == name)
    found = [explain(spec.path, *spec.define, *spec.words, "--mesh", f"dp={dp},tp=2", "--batch", 2 * dp * microbatches, "--microbatches", microbatches)
             for dp, microbatches in ((2, 2), (2, 64), (8, 16))]
    scratch = [plan["devices"][0]["scratch"] for plan in found]
    check(max(scratch) <= 1.1 * min(scratch), f"scratch of 2 samples: {scratch} bytes")


def random_plan(seed):
    chance = random.Random(1000 + seed)
    text, blocks = generate.spec(seed)
    path = WORK / f"properties/specs/random{seed}.lua"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    mesh = (chance.choice([1, 1, 2, 3]), chance.choice([1, 1, 2, 4]), chance.randint(1, blocks + 1))
    plan = path, mesh, chance.randint(1, 8), chance.choice(SCHEDULES)
    zero = ("--zero", "1") if mesh[0] > 1 and chance.random() < 0.5 else ()
    rounded = ("--dtype", "bf16", "--gradients", "bf16") if plan[2] == 1 and chance.random() < 0.7 else ()
    return *plan, *zero, *rounded


def random_plans(first, count):
    for seed in range(first, first + count):
        words = random_plan(seed)
        print("--", *words, flush=True)
        plan = Plan(*words)
        plan.check()
        again = Plan(*words)
        check((plan.json, plan.dump_text) == (again.json, again.dump_text), "a second run gives another plan")


MESHES = {
    "mlp": [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2), (1, 1, 4)],
    "column": [(2, 2, 1)], "row": [(2, 2, 1)], "pair": [(1, 2, 2)],
    "residual_across_cut": [(1, 1, 3), (2, 1, 4)], "shared_weight": [(1, 1, 5), (2, 1, 3)], "two_losses": [(2, 1, 4), (1, 1, 2)],
    "chains": [(1, 2, 4)], "uneven": [(2, 2, 3)], "factored": [(2, 1, 2)], "reuse": [(2, 2, 4)], "skip_many": [(1, 2, 8), (2, 1, 5)],
    "momentum": [(2, 2, 2)], "evaluated": [(1, 1, 3)], "adamw": [(1, 1, 1), (2, 2, 2), (1, 2, 4), (1, 1, 3)],
    "gelus": [(1, 1, 1), (2, 2, 2)], "chunks": [(1, 1, 1), (2, 2, 2), (1, 3, 1), (2, 1, 1)],
    "layers": [(1, 1, 1), (2, 2, 2), (1, 2, 4)], "layers_odd": [(2, 2, 1), (1, 2, 3)],
    "layers_before": [(1, 2, 2), (1, 1, 4)], "logits_of_stages": [(1, 1, 3)],
}
# And the most tensors that a group which goes both ways has in one direction.
ROUNDS = [("attends", (1, 1, 2), 1, "1F1B", 0), ("attends", (1, 1, 2), 4, "GPipe", 0), ("attends", (1, 1, 2), 4, "1F1B", 2), ("skip_many", (1, 1, 4), 6, "1F1B", 1),
          ("residual_across_cut", (1, 1, 3), 4, "GPipe", 0), ("residual_across_cut", (1, 1, 3), 6, "1F1B", 2),
          ("residual_across_cut", (1, 1, 4), 8, "1F1B", 1)]
IN_PARTS = [("gpt2", (2, 1, 1), 1), ("gpt2", (2, 1, 2), 4), ("gpt2_sequences", (2, 2, 2), 2), ("adamw", (2, 2, 2), 4), ("uneven", (3, 1, 2), 2),
            ("gpt2_chunked", (2, 1, 1), 2), ("llama", (4, 1, 1), 1)]
ROUNDED = [("gpt2", (2, 1, 1)), ("gpt2", (2, 2, 2), "--sequence-parallel"), ("gpt2", (2, 1, 1), "--zero", "1"), ("llama", (2, 2, 1), "--zero", "1"), ("llama", (4, 1, 1)),
           ("gpt2_chunked", (2, 1, 1)), ("gpt2_large", (2, 1, 1)), ("offsets", (2, 1, 1))]
LONG = [("layers", (1, 1, 2), 40), ("layers_odd", (1, 2, 3), 47), ("layers", (2, 1, 4), 50), ("mlp", (2, 2, 2), 63),
        ("skip_many", (1, 1, 4), 44), ("uneven", (1, 2, 3), 41)]


def cases(long):
    named = [Case(f"{spec}-{specs.mesh_text(mesh)}", named_plans, spec, mesh, long)
             for spec in [*specs.SPECS, specs.BIASES, specs.LOGITS] for mesh in MESHES.get(spec.name, [(1, 1, 2)]) if spec.takes(mesh)]
    named += [Case(f"apart-{spec}-{specs.mesh_text(mesh)}-m{m}", apart, spec, device, mesh, m, pieces) for spec, device, mesh, m, pieces in APART]
    named += [Case(f"{spec}-{specs.mesh_text(mesh)}", large_tables, spec, mesh) for spec, mesh in zip(specs.LARGE_TABLES, ((2, 1, 1), (2, 1, 2), (2, 2, 1)))]
    named += [Case(f"zero-{name}-{specs.mesh_text(mesh)}-m{m}", in_parts, name, mesh, m) for name, mesh, m in IN_PARTS]
    named += [Case(f"rounded-{'-'.join([name, specs.mesh_text(mesh), *words])}", rounded, name, mesh, *words) for name, mesh, *words in ROUNDED]
    named += [Case(f"scratch-{name}", scratch_of_samples, name) for name in ("gpt2", "gpt2_sequences", "llama_sequences")]
    named += [Case(f"rounds-{words[0]}-{words[3]}-m{words[2]}", rounds, *words) for words in ROUNDS]
    number = RANDOM_CASES * (10 if long else 1)
    named += [Case(f"long-{words[0]}-{specs.mesh_text(words[1])}-m{words[2]}", long_steady_state, *words, heavy=True) for words in LONG]
    return named + [Case(f"mesh-{i * PLANS_A_CASE}", random_plans, i * PLANS_A_CASE, PLANS_A_CASE) for i in range(number)]
