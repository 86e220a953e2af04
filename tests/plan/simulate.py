"""Reads a plan as it was emitted and runs it on paper: its functions from --dump repeat, its actions from program_K.cu,
its addresses from memory.h. Raises Failure when the plan is wrong.
"""
import re
from collections import Counter, namedtuple

from lib.harness import Failure, check
from plan import dump, memory

Action = namedtuple("Action", "text function arguments")
Message = namedtuple("Message", "tensor peer argument sends")
Step = namedtuple("Step", "name flags kind accesses messages")

ACTION = re.compile(r'^\t\{"([^"]+)", (\w+), (-?\d+), (-?\d+)\},$', re.M)


class Stage:
    """functions: {name: [Step]}; buffers: {name: Buffer}; actions: a training step's."""

    def __init__(self, number, text, buffers, program):
        self.number, self.functions, self.buffers = number, {}, buffers
        steps = None
        for line in text.splitlines():
            if re.match(r"  \w+$", line):
                steps = self.functions[line.strip()] = []
            elif line.startswith("      ") and steps:
                accesses = re.findall(r"(read|write) (\w+)\[(\d+)\]", line)
                steps[-1].accesses.extend((verb == "write", buffer, int(k)) for verb, buffer, k in accesses)
            elif line.startswith("    ") and steps is not None:
                steps.append(read_step(line))
        table = program.split("train_actions[] = {")[1].split("};")[0]
        self.actions = [Action(text, function, [int(a), int(b)]) for text, function, a, b in ACTION.findall(table)]
        check(len(self.actions) > 3 and len(self.buffers) > 5, f"stage {number} was not understood")

    def messages(self, action):
        """What an action sends and receives: (sends, tensor, peer, micro-batch, round), in order. In one group NCCL takes the
        n-th send to a peer together with the n-th receive from it, behind round n - 1."""
        found, counts = [], Counter()
        for m in (m for step in self.functions.get(action.function, []) for m in step.messages):
            counts[m.sends, m.peer] += 1
            found.append((m.sends, m.tensor, m.peer, action.arguments[m.argument], counts[m.sends, m.peer]))
        return found


def read_step(line):
    kind, name, flags, rest = re.match(r"    (\w+) (\S+) on \w+([\w ]*): (.*)$", line).groups()
    found = re.findall(r"(\S+) (to|from) (\d+)\[(\d+)\]", rest) if kind == "transfer" else []
    return Step(name, flags.split(), kind, [], [Message(t, int(p), int(k), way == "to") for t, way, p, k in found])


def read_plan(folder, text):
    """The stages of an emitted folder; text: what --dump printed."""
    parts = re.split(r"^stage (\d+)\n", text, flags=re.M)[2::2]
    memories = memory.read((folder / "memory.h").read_text(), dump.read(text))
    return [Stage(k, part, memories[k].buffers, (folder / f"program_{k}.cu").read_text()) for k, part in enumerate(parts)]


# ---------------------------------------------------------------------------------------------------------
# Schedules

def check_once(stage, microbatches, schedule, stages):
    """Each F and B once, B behind its F, at most as many in flight as the schedule says."""
    matches = [re.match(r"\d+([FB])(\d+)$", action.text) for action in stage.actions]
    order = [(m[1], int(m[2])) for m in matches if m]
    check(sorted(order) == sorted((kind, mb) for kind in "FB" for mb in range(microbatches)),
          f"stage {stage.number} runs {order}")
    in_flight, most = set(), 0
    for kind, mb in order:
        if kind == "F":
            in_flight.add(mb)
            most = max(most, len(in_flight))
        else:
            check(mb in in_flight, f"stage {stage.number}: B{mb} before F{mb}")
            in_flight.remove(mb)
    expected = microbatches if schedule == "GPipe" else min(stages - stage.number, microbatches)
    check(most == expected, f"stage {stage.number}: {most} micro-batches in flight, not {expected}")
    backward = [mb for kind, mb in order if kind == "B"]
    check(backward == sorted(backward), f"stage {stage.number}: backward in the order {backward}")


def first_of(waiting, sends, peer):
    """The next message of an action with a peer; None while a round before it goes on, be it with another peer."""
    found = next((m for m in waiting if (m[0], m[2]) == (sends, peer)), None)
    return found if found and found[4] == min(m[4] for m in waiting) else None


def check_rendezvous(stages):
    """Every send meets its receive with no buffering at all: a stage waits in an action until all of it was met."""
    at = [0] * len(stages)
    waiting = [list(stage.messages(stage.actions[0])) for stage in stages]
    while any(at[s] < len(stage.actions) for s, stage in enumerate(stages)):
        moved = False
        for s, stage in enumerate(stages):
            for message in list(waiting[s]):
                sends, tensor, peer, mb, _ = message
                # Between two stages messages meet in order, round by round: both must be the first of their kind.
                there = first_of(waiting[peer], not sends, s)
                if message == first_of(waiting[s], sends, peer) and there and there[:4] == (not sends, tensor, s, mb):
                    waiting[s].remove(message)
                    waiting[peer].remove(there)
                    moved = True
            if not waiting[s] and at[s] < len(stage.actions):
                at[s] += 1
                waiting[s] = stage.messages(stage.actions[at[s]]) if at[s] < len(stage.actions) else []
                moved = True
        if not moved:
            raise Failure("deadlock: " + "; ".join(f"stage {s} in {stage.actions[at[s]].text} waits for {waiting[s]}"
                                                   for s, stage in enumerate(stages) if at[s] < len(stage.actions)))


# ---------------------------------------------------------------------------------------------------------
# Memory: who wrote each byte last

class Arena:
    """Disjoint ranges of the arena, each owned by the buffer and slot that wrote it last."""

    def __init__(self):
        self.ranges = []

    def write(self, begin, end, owner):
        kept = []
        for b, e, o in self.ranges:
            if b < begin:
                kept.append((b, min(e, begin), o))
            if e > end:
                kept.append((max(b, end), e, o))
        self.ranges = [r for r in kept if r[0] < r[1]] + [(begin, end, owner)]

    def owners(self, begin, end):
        found = {o for b, e, o in self.ranges if b < end and e > begin}
        covered = sum(min(e, end) - max(b, begin) for b, e, o in self.ranges if b < end and e > begin)
        return found | ({None} if covered < end - begin else set())


def slots_of(buffer, action, k):
    if buffer.slots == 1:
        return [0]
    mb = action.arguments[k]
    return range(buffer.slots) if mb < 0 else [mb % buffer.slots]


def check_step(stage, step):
    """A step does not write over what it reads, but for a buffer that is both."""
    scratch = {name: stage.buffers[name] for w, name, k in step.accesses if stage.buffers[name].slots == 1}
    for a in {name for w, name, k in step.accesses if w and name in scratch}:
        for b in scratch:
            apart = (scratch[a].offset + scratch[a].bytes <= scratch[b].offset
                     or scratch[b].offset + scratch[b].bytes <= scratch[a].offset)
            check(a == b or apart, f"stage {stage.number}: {step.name} writes {a} over {b}, which it uses too")


def run_action(stage, action, last, arena, written):
    for step in stage.functions.get(action.function, []):
        if "evaluating" in step.flags or ("last" in step.flags and action.arguments[0] != last) or ("first" in step.flags and action.arguments[0]):
            continue
        rewrites = (step.kind == "collective" and not re.search("all_gather|reduce_scatter", step.name)) or "update" in step.name
        check_step(stage, step)
        for is_write, name, k in sorted(step.accesses, key=lambda access: access[0]):
            buffer = stage.buffers[name]
            for slot in slots_of(buffer, action, k):
                begin, owner = buffer.offset + slot * buffer.stride, (name, slot)
                adds = is_write and (rewrites or "accumulate" in step.flags and owner in written)
                if not is_write or adds:
                    owners = arena.owners(begin, begin + buffer.bytes)
                    check(owners == {owner}, f"stage {stage.number}, {action.text}: {step.name} reads {name} (slot {slot}), "
                          f"which holds {sorted(map(str, owners))}")
                if is_write:
                    arena.write(begin, begin + buffer.bytes, owner)
                    written.add(owner)


def check_memory(stage, planned, microbatches):
    """Two training steps: what is read is what was written there last; nothing lies beyond the arena."""
    arena, parameters = Arena(), set()
    for steps in stage.functions.values():
        for step in steps:
            parameters |= {name for w, name, k in step.accesses if name.endswith(("_weight", "_bias", "_momentum", "update_table"))}
    for name in parameters:
        arena.write(stage.buffers[name].offset, stage.buffers[name].offset + stage.buffers[name].bytes, (name, 0))
    for repeat in range(2):
        written = set()
        for action in stage.actions:
            run_action(stage, action, microbatches - 1, arena, written)
    end = max(b.offset + (b.slots - 1) * b.stride + b.bytes for b in stage.buffers.values())
    check(end <= planned, f"stage {stage.number}: a buffer ends at {end}, behind the arena of {planned} bytes")
