"""What an emitted program does in which order: its action lists unrolled, and checked without the generator's help.

Three checks on the same unrolled lists: find_conflict (vector clocks: is every conflicting pair of steps ordered?),
check_values (does every read find what its own micro-batch wrote?) and check_progress (do all stages together come to
an end when no message is buffered?).
"""
import bisect
import collections
import itertools

from lib.harness import check
from plan.emitted import STREAMS, WORKSPACES
from plan.memory import number

Wait = collections.namedtuple("Wait", "stream event site")
Record = collections.namedtuple("Record", "stream event")
Begin = collections.namedtuple("Begin", "list")
Step = collections.namedtuple("Step", "stream reads writes where operation function names ranges")
Step.__doc__ = """reads, writes: indices of Unrolled's pieces of memory; the last piece stands for NCCL's launch order.
ranges: (access, start, end, read) in bytes; names: {argument: micro-batch}"""

REDUCES = ("ncclAllReduce", "mp_all_reduce")
PERSISTENT = ("parameters", "optimizer")


def ranges(program, function, operation, names, rank):
    """(access, start, end, read): the bytes of each access of a step on the device `rank` of tp, and whether it needs what they hold."""
    found = []
    for access in operation.accesses:
        buffer = program.buffers.get(access.buffer)
        if access.buffer in WORKSPACES:
            continue
        check((access.slot is None) == (buffer.slots == 1), f"{buffer.name}: {buffer.slots} slots, micro-batch {access.slot}")
        start, size = buffer.offset, access.bytes or buffer.bytes
        if access.rows:
            start, size = start + begin_of(access.rows, buffer, rank), buffer.bytes // access.rows.ranks // access.rows.pieces
            check(access.bytes in (None, size), f"{operation.call} of {buffer.name} uses {access.bytes} bytes, its rows have {size}")
        if buffer.slots > 1 and function.micro:
            start += number(access.slot, names) % buffer.slots * buffer.stride
        elif buffer.slots > 1:
            check(access.slot == "0" and buffer.stride == buffer.bytes, f"{buffer.name}: slots with gaps are used as one")
            size = access.bytes or buffer.slots * buffer.bytes
        whole = buffer.slots > 1 and not function.micro
        bucket = operation.call in REDUCES and size > buffer.bytes
        check(size <= buffer.bytes * (buffer.slots if whole else 1) or bucket,
              f"{operation.call} of {buffer.name} uses {size} of its {buffer.bytes} bytes")
        if bucket:
            check_bucket(program, start, start + size)
        adds = access.adds == "true" or access.adds and number(access.adds, names)
        found.append((access, start, start + size, access.read or adds))
    return found


def begin_of(rows, buffer, rank):
    """Where rows begin in a buffer, in bytes."""
    of_rank = buffer.bytes // rows.ranks
    return (rank + rows.rank) % rows.ranks * of_rank + rows.piece * (of_rank // rows.pieces)


def check_bucket(program, start, end):
    """A bucket holds gradients, whole ones."""
    for buffer in program.buffers.values():
        if buffer.offset < end and start < buffer.offset + buffer.bytes * buffer.slots and buffer.kind not in ("workspace", "activations"): # which may have been there
            check(buffer.kind == "gradients" and start <= buffer.offset and buffer.offset + buffer.bytes <= end,
                  f"an all-reduce from {start} to {end} covers a part of {buffer.name}")


class Unrolled:
    """Some lists of a program one after another, as the host enqueues them on the device `rank` of tp."""

    def __init__(self, program, lists, rank=0):
        self.program, self.rank, self.items = program, rank, []
        cuts = {0, program.arena}
        divided = collections.defaultdict(set)      # {buffer: where rows begin in it}
        for operation in itertools.chain(*(function.operations for function in program.functions.values())):
            for access in operation.accesses:
                if access.rows:
                    divided[access.buffer].add(begin_of(access.rows, program.buffers[access.buffer], rank))
        for buffer in program.buffers.values():
            if buffer.name not in WORKSPACES:
                for slot in range(buffer.slots):
                    start = buffer.offset + slot * buffer.stride
                    cuts |= {start, start + buffer.bytes} | {start + begin for begin in divided[buffer.name]}
        self.cuts = sorted(cuts)
        self.nccl, self.workspace = len(self.cuts), len(self.cuts) + 1     # a piece for each stream's workspace
        for name in lists:
            self.items.append(Begin(name))
            for action in program.lists[name]:
                self.run(action, evaluating=name != "train")

    def pieces(self, start, end):
        """Indices of the pieces of memory between the bounds."""
        check(0 <= start < end <= self.program.arena, f"bytes {start} to {end} lie outside of the arena")
        return range(bisect.bisect_right(self.cuts, start) - 1, bisect.bisect_left(self.cuts, end))

    def run(self, action, evaluating):
        function = self.program.functions[action.function]
        names = dict(zip(function.arguments, (action.first, action.second)))
        check(all(k >= 0 for k in names.values()), f"{action.name} lacks a micro-batch of {action.function}")
        for operation in function.operations:
            condition = operation.condition
            if condition == "evaluating" and not evaluating:
                continue
            if condition not in ("", "evaluating") and not number(condition, names):
                continue
            stream = STREAMS.index(operation.stream)
            if operation.kind == "step":
                self.items.append(self.step(action, function, operation, names, stream))
            else:
                event = number(operation.event, {**self.program.constants, **names})
                check(0 <= event < self.program.constants["EVENTS"], f"{action.name}: event {event}")
                self.items.append(Wait(stream, event, (action.function, operation.line)) if operation.kind == "wait"
                                  else Record(stream, event))

    def step(self, action, function, operation, names, stream):
        reads, writes, found = set(), set(), ranges(self.program, function, operation, names, self.rank)
        for access, start, end, _ in found:
            (writes if access.write else reads).update(self.pieces(start, end))
        if operation.communicator:
            writes.add(self.nccl)
        writes |= {self.workspace + WORKSPACES.index(access.buffer) for access in operation.accesses if access.buffer in WORKSPACES}
        where = f"{action.name}: {operation.where}"
        return Step(stream, sorted(reads - writes), sorted(writes), where, operation, function, names, found)

    def sites(self):
        """The places of waits, without those of the fork and the join of a step."""
        return sorted({item.site for item in self.items if isinstance(item, Wait)} - {
            item.site for item in self.items if isinstance(item, Wait) and item.site[0] in ("begin_step", "end_step")})


# ---------------------------------------------------------------------------------------------------------
# Happens-before

def find_conflict(unrolled, without=None):
    """The first conflicting pair of steps that nothing orders, or None; waits at the site `without` are left out.

    clocks[s][t]: how many steps of stream t are known to be done when the next one of s starts."""
    streams = range(len(STREAMS))
    clocks, events = [[0] * len(STREAMS) for _ in streams], {}
    size = unrolled.workspace + len(WORKSPACES)
    written, read = ([[0] * len(STREAMS) for _ in range(size)] for _ in range(2))
    steps = {}
    for item in unrolled.items:
        if type(item) is Begin:
            continue
        clock = clocks[item.stream]
        if type(item) is Wait:
            if item.site != without and item.event in events: # before the first record a wait is none
                clocks[item.stream] = [max(pair) for pair in zip(clock, events[item.event])]
        elif type(item) is Record:
            events[item.event] = list(clock)
        else:
            for piece in item.reads:
                for other in streams:
                    if written[piece][other] > clock[other]:
                        return steps[other, written[piece][other]], item.where, piece
            for piece in item.writes:
                for other in streams:
                    last = max(written[piece][other], read[piece][other])
                    if last > clock[other]:
                        return steps[other, last], item.where, piece
            clock[item.stream] += 1
            steps[item.stream, clock[item.stream]] = item.where
            for piece in item.reads:
                read[piece][item.stream] = clock[item.stream]
            for piece in item.writes:
                written[piece][item.stream] = clock[item.stream]
    joined = [stream for stream in streams if clocks[0][stream] < clocks[stream][stream]]
    if joined:
        return STREAMS[joined[0]], "the end of a step", None
    return None


# ---------------------------------------------------------------------------------------------------------
# Values

def microbatch_of(step, access):
    """The micro-batch that an access of a micro-batch function belongs to; None: it does not say, or what the first makes is all others' too."""
    if not step.function.micro or step.operation.condition.endswith("== 0"):
        return None
    if access.slot is not None:
        return number(access.slot, step.names)
    return step.names[step.function.arguments[0]] if len(step.function.arguments) == 1 else None


def check_values(unrolled):
    """Every read finds bytes that were written as the same buffer, in the same step and for the same micro-batch."""
    buffers = unrolled.program.buffers
    kept = {}
    for buffer in buffers.values():
        if buffer.kind in PERSISTENT:
            kept |= {piece: (buffer.name, None) for piece in unrolled.pieces(buffer.offset, buffer.offset + buffer.bytes)}
    held = {}
    for item in unrolled.items:
        if type(item) is Begin:
            held = dict(kept)
        if type(item) is not Step:
            continue
        for access, start, end, read in item.ranges:
            if not read:
                continue
            for piece in unrolled.pieces(start, end):
                if unrolled.cuts[piece] >= start + buffers[access.buffer].bytes and item.operation.call in REDUCES:
                    break # the other gradients of a bucket
                name, microbatch = held.get(piece, (None, None))
                check(name == access.buffer, f"{item.where} reads {access.buffer} where " + (f"{name} was written" if name
                      else "nothing was written in this step"))
                own = microbatch_of(item, access)
                summed = buffers[name].kind == "gradients"
                check(summed or own is None or microbatch in (None, own),
                      f"{item.where} reads {name} of micro-batch {microbatch}")
        for access, start, end, read in item.ranges:
            if access.write and not read:
                for piece in unrolled.pieces(start, end):
                    held[piece] = (access.buffer, microbatch_of(item, access))


# ---------------------------------------------------------------------------------------------------------
# Progress of all stages

def rounds(messages):
    """(round, message): in one group NCCL takes the n-th send to a peer together with the n-th receive from it, behind round n - 1.
    Of large messages even rounds of different peers wait for each other."""
    counts = collections.Counter()
    return [(counts.update([(m.peer, m.send)]) or counts[m.peer, m.send], m) for m in messages]


class Stage:
    """The steps of one stage with what each waits for: steps before it on its stream, and events."""

    def __init__(self, unrolled):
        self.steps, self.needs, self.buffers = [], [], unrolled.program.buffers
        self.waiting = [collections.deque() for _ in STREAMS] # by stream: indices of steps that are not done
        last, pending, events = {}, collections.defaultdict(set), {}
        for item in unrolled.items:
            if type(item) is Wait:
                pending[item.stream] |= events.get(item.event, set())
            elif type(item) is Record:
                events[item.event] = pending[item.stream] | last.get(item.stream, set())
            elif type(item) is Step:
                self.needs.append(pending.pop(item.stream, set()) | last.get(item.stream, set()))
                last[item.stream] = {len(self.steps)}
                self.waiting[item.stream].append(len(self.steps))
                self.steps.append(item)
        self.done = [False] * len(self.steps)
        self.open = {}      # index of a step: (round, message) of what was not delivered yet

    def start(self):
        """Runs what can run; transfers only open. Returns whether anything moved."""
        moved = False
        for waiting in self.waiting:
            while waiting and waiting[0] not in self.open and all(self.done[k] for k in self.needs[waiting[0]]):
                moved = True
                if messages := self.steps[waiting[0]].operation.messages:
                    self.open[waiting[0]] = rounds(messages)
                else:
                    self.done[waiting.popleft()] = True
        return moved

    def first(self, peer, send):
        """The next message with a peer: (step, message); None while a round before it goes on, be it with another peer."""
        for i, numbered in sorted(self.open.items()):
            if found := next(((n, m) for n, m in numbered if (m.peer, m.send) == (peer, send)), None):
                return (i, found[1]) if found[0] == min(n for n, _ in numbered) else None
        return None

    def deliver(self, i, message):
        self.open[i] = [(n, m) for n, m in self.open[i] if m is not message]
        if not self.open[i]:
            del self.open[i]
            self.done[i] = True
            self.waiting[self.steps[i].stream].popleft()


def content(step, message):
    """What a message carries: tensor, micro-batch, elements. Names of one tensor differ where another took the name."""
    name = message.access.buffer
    while name.endswith(("_also", "_buffer")):
        name = name.rsplit("_", 1)[0]
    microbatch = number(message.access.slot, step.names) if message.access.slot and step.function.micro else None
    return name, microbatch, message.count, message.type


def check_pair(sender, i, sent, receiver, k, received):
    left, right = content(sender.steps[i], sent), content(receiver.steps[k], received)
    same = left[0] == right[0] and left[2:] == right[2:] and (None in (left[1], right[1]) or left[1] == right[1])
    check(same, f"{sender.steps[i].where} sends {left}, {receiver.steps[k].where} receives {right}")
    buffer = receiver.buffers[received.access.buffer]
    place = (buffer.offset, buffer.slots, buffer.stride) if received.access.slot else (buffer.offset, 1, 0)
    check(sent.there == place, f"{sender.steps[i].where} sends {left} to {sent.there}, {receiver.steps[k].where} receives it at {place}")
    return left


def check_progress(unrolled_stages):
    """All stages run to their end with no message buffered; every receive takes what was sent. Returns the messages."""
    stages, delivered = [Stage(unrolled) for unrolled in unrolled_stages], []
    moved = True
    while moved:
        moved = any([stage.start() for stage in stages])
        for a, sender in enumerate(stages):
            for b, receiver in enumerate(stages):
                while a != b and (sent := sender.first(b, True)) and (received := receiver.first(a, False)):
                    delivered.append((a, b, *check_pair(sender, *sent, receiver, *received)))
                    sender.deliver(*sent)
                    receiver.deliver(*received)
                    moved = True
    stuck = [next((f"stage {s} at {stage.steps[i].where}" for i in range(len(stage.steps)) if not stage.done[i]), None)
             for s, stage in enumerate(stages)]
    check(not any(stuck), "nothing moves any more: " + "; ".join(filter(None, stuck)))
    return delivered
