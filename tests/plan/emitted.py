"""Reads an emitted directory back: what each program of a rank enqueues, taken from the C text alone.

The generator's own lists are not asked: streams, waits and records come from the calls in program_K.cu, addresses from
memory.h, what a kernel reads and writes from the const in its prototype in kernels.h. Loops over equal layers are expanded:
the function of a layer is read once for each, and its operations are those of the function that calls it. A loop over chunks is
one operation, which uses what all its calls do.
"""
import collections
import dataclasses
import re

from lib.harness import check
from plan import memory
from plan.memory import Buffer

NUMBERS = {"ncclBfloat16": 2, "ncclFloat32": 4, "ncclFloat64": 8, "ncclInt32": 4}
COMPUTE, STREAMS = "compute", ("compute", "side", "dp_stream", "tp_stream", "pp_stream")
EXCHANGE = "the exchange over "
WORKSPACE, SIDE_WORKSPACE = WORKSPACES = "the workspace", "the workspace of the side stream"

Action = collections.namedtuple("Action", "name function first second")


@dataclasses.dataclass
class Access:
    buffer: str
    slot: str           # an expression of the function's arguments; None: the buffer has no slots
    write: bool
    read: bool
    bytes: int = None   # where the call says how many; else the buffer's slot
    adds: str = ""      # the condition under which a GEMM adds to what is there
    begins: tuple = ()  # where the rows begin that it uses, in elements: (ranks behind, those of a rank, more), None where not said
    rows: tuple = None  # dump.Rows that it uses alone


@dataclasses.dataclass
class Message:
    send: bool
    peer: int
    count: int
    type: str
    access: Access
    there: tuple = None # of what is sent: where it goes on the other stage: offset, slots, stride


@dataclasses.dataclass
class Operation:
    """kind: wait, record (event: an expression) or step."""
    kind: str
    stream: str
    line: int
    condition: str = ""     # "", "evaluating" or "ARGUMENT == N"
    event: str = ""
    call: str = ""
    text: str = ""          # the comment above
    accesses: list = dataclasses.field(default_factory=list)
    messages: list = dataclasses.field(default_factory=list)
    communicator: str = ""
    shifts: list = dataclasses.field(default_factory=list)     # of a shift: (sends, to how many devices behind, count)
    layer: int = None       # of the loop that it is in

    @property
    def where(self):
        return (self.text or self.call) + ("" if self.layer is None else f", layer {self.layer}")


@dataclasses.dataclass
class Function:
    name: str
    arguments: tuple        # names of its micro-batches: (), ("mb",), ("f", "b"), …
    operations: list

    @property
    def micro(self):
        return bool(self.arguments)


@dataclasses.dataclass
class Program:
    stage: int
    buffers: dict
    constants: dict         # numbers of events
    functions: dict
    lists: dict             # train, evaluate, infer: Actions
    arena: int

    @property
    def uses_rows(self):
        return any(access.rows for function in self.functions.values() for o in function.operations for access in o.accesses)


def split(text):
    """Arguments at the commas that are in no brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += c in "([{" and 1 or c in ")]}" and -1 or 0
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return parts + [text[start:].strip()]


# ---------------------------------------------------------------------------------------------------------
# kernels.h

def read_prototypes(text):
    """{kernel: [what its parameters are: "" no buffer, "read" or "write"]}"""
    text = re.sub(r"(?m)//.*$", "", text)
    found = {}
    for name, parameters in re.findall(r"^void (\w+)\(([^;]*?)\);", text, re.M | re.S):
        found[name] = ["" if "*" not in p else "read" if p.startswith("const ") else "write" for p in split(parameters)]
    return found


# ---------------------------------------------------------------------------------------------------------
# program_K.cu

EXCHANGES = {"mp_all_reduce": "ncclAllReduce", "mp_reduce_scatter": "ncclReduceScatter", "mp_all_gather": "ncclAllGather", "mp_shift": "ncclSend",
             "mp_gather_rows": "ncclSend"}
LAYER_FUNCTION = re.compile(r"static void (\w+)\(struct mp_rank \*r, (?:int (\w+), )?int layer\)$")
LOOP = re.compile(r"for \(int layer = (\d+); layer (<|>=) (\d+); layer(\+\+|--)\)$")


CHUNKS = re.compile(r"for \(int chunk = 0; chunk < (\d+); chunk\+\+\) \{$")


def layers_of(loop):
    """The numbers that a loop counts, in order."""
    first, relation, bound, step = loop.groups()
    check((relation, step) in (("<", "++"), (">=", "--")), f"what is {loop[0]}?")
    return range(int(first), int(bound)) if step == "++" else range(int(first), int(bound) - 1, -1)


class Reader:
    """layers: {function of a layer: (its micro-batch or None, lines, number of the first)}; called: those that were."""

    def __init__(self, places, prototypes, workspace, sizes, layers, updated):
        self.places, self.prototypes, self.workspace, self.sizes, self.layers = places, prototypes, workspace, sizes, layers
        self.updated, self.layer, self.called = updated, None, set()
        self.chunks = None      # inside of a loop over chunks: how many
        self.tables = {}        # of messages, by name: rows of words

    def place(self, argument, write, read, size=None):
        """[Access] of a pointer argument; nothing for NULL and host memory."""
        argument = re.sub(r"^\(\w+ \*\)", "", argument)
        found = re.match(r"(\w+)\(r(?:, (?!layer\b)(\w+))?(, layer)?\)( \+ peer \* \d+| \+ r->tp \* \d+L| \+ \(r->tp \+ \d+\) % \d+ \* \d+L)?(?: \+ chunk \* (\d+)L)?(?: \+ (\d+)L)?$",
                         argument)
        if not found:
            check(argument == "NULL" or re.match(r"r->(input|output|metrics|learning_rate|step_number|random_key)\b", argument),
                  f"what is the operand {argument!r}?")
            return []
        accessor, buffer = self.places.find(found[1], self.layer)
        check((bool(found[2]), bool(found[3])) == (accessor.slotted, accessor.layered), f"{argument} is not what memory.h has")
        if found[5]: # all chunks together are the buffer
            check(self.chunks and buffer.bytes in [n * self.chunks * int(found[5]) for n in (2, 4, 8)],
                  f"{argument}, of {self.chunks} chunks and {buffer.bytes} bytes")
        behind = re.match(r" \+ (?:r->tp|\(r->tp \+ (\d+)\) % \d+) \* (\d+)L", found[4] or "")
        begins = (int(behind[1] or 0), int(behind[2])) if behind else (None, None)
        return [Access(buffer.name, found[2] if buffer.slots > 1 else None, write, read, size, begins=(*begins, int(found[6] or 0)))]

    def row(self, row, kernel, at):
        """What a row of the table of what is updated lets the norm read, or an update read and write, in step `at`.
        Of buffers that lie at one place one after another, the dump says which is there."""
        found, known = [], self.places.stage.functions["update"][at]
        named = {name for name, _ in known.reads | known.writes}
        for what, place in zip(("gradient", "weight", "state", "state", "copy", "lower"), row):
            lies = [b for b in self.places.buffers.values() if b.offset == place * 256 and b.bytes and (b.kind not in ("scratch", "activations") or b.name in named)]
            check(place < 0 or len(lies) == 1, f"at {place} * 256 bytes of the arena lie {[b.name for b in lies]}, not a {what}")
            if place < 0 or (kernel.startswith("squared_norms") and what != "gradient"):
                continue
            elements = (row[8] - 1) * 65536 + row[9]
            check(lies[0].bytes in [size * elements for size in ((2,) if what in ("copy", "lower") or (what == "gradient" and row[12]) else (4, 8))],
                  f"{lies[0].name} has {lies[0].bytes} bytes, in the table {elements} elements")
            found.append(Access(lies[0].name, None, what != "gradient", what != "copy" or row[5] >= 0))
        return found

    def call(self, name, arguments, operation, at):
        """at: the number of the step in its function."""
        if name in ("mp_gemm", "mp_conv"):
            operation.stream = arguments[7]
            for i in (2, 3, 4):
                operation.accesses += self.place(arguments[i], False, True)
            (result,) = self.place(arguments[5], True, False)
            result.adds = arguments[6].replace("false", "")
            operation.accesses.append(result)
            if self.workspace:
                operation.accesses.append(Access(WORKSPACE, None, True, False))
        elif name in ("mp_gemm_keep", "mp_gemm_grad"):
            operation.stream, grad = arguments[-1], name == "mp_gemm_grad"
            for i, argument in enumerate(arguments[2:-1]):
                written = i == len(arguments) - 4 or (not grad and i == len(arguments) - 5)
                operation.accesses += self.place(argument, written, not written)
            if self.workspace:
                operation.accesses.append(Access(WORKSPACE, None, True, False))
        elif name in ("mp_attention", "mp_attention_grad"):
            operation.stream = arguments[-1]
            results = 2 if name == "mp_attention" else 1
            tensors, dropped = arguments[2:-2], split(arguments[-2].strip("{}"))
            for i, argument in enumerate(tensors):
                written = i >= len(tensors) - results
                operation.accesses += self.place(argument, written, not written)
            if len(dropped) > 1:
                operation.accesses += self.place(dropped[0], False, True)
            if self.workspace:
                operation.accesses.append(Access(WORKSPACE, None, True, False))
        elif name == "cudaMemcpyAsync":
            operation.stream = arguments[4]
            operation.accesses += self.place(arguments[0], True, False, int(arguments[2]))
            operation.accesses += self.place(arguments[1], False, True, int(arguments[2]))
        elif name == "copy_all":
            operation.stream = arguments[1]
            copies = [split(copy) for copy in re.findall(r"\{([^{}]*)\}", arguments[0])]
            check(0 < len(copies) <= 8 and f"{{{{{', '.join('{' + ', '.join(c) + '}' for c in copies)}}}}}" == arguments[0], f"what is {arguments[0]}?")
            for target, source, size in copies:
                operation.accesses += self.place(target, True, False, int(size)) + self.place(source, False, True, int(size))
        elif name.startswith("column_sums"):
            operation.stream = arguments[-1]
            sums = [split(one) for one in re.findall(r"\{([^{}]*)\}", arguments[0])]
            check(0 < len(sums) <= 4 and f"{{{{{', '.join('{' + ', '.join(s) + '}' for s in sums)}}}}}" == arguments[0], f"what is {arguments[0]}?")
            for total, partials, x in sums:
                operation.accesses += self.place(total, True, False) + self.place(x, False, True)
                check((partials == "NULL") == (arguments[3] == "1"), f"{arguments[3]} chunks of rows have the partial sums {partials}")
                if partials != "NULL":
                    operation.accesses += self.place(partials, True, False)
        elif name.startswith("nccl"):
            self.communication(name, arguments, operation)
        elif name in EXCHANGES:
            self.exchange(name, arguments, operation)
        elif name == "mp_messages":
            self.send_and_receive(arguments, operation)
        else:
            check(name in self.prototypes, f"{name} is not in kernels.h")
            kinds = self.prototypes[name]
            check(len(kinds) == len(arguments), f"{name} is called with {len(arguments)} arguments")
            operation.stream = arguments[-1]
            for kind, argument in zip(kinds, arguments):
                if kind and argument == "r->arena":
                    operation.accesses += [access for row in self.updated if row[8] for access in self.row(row, name, at)]
                elif kind:
                    operation.accesses += self.place(argument, kind == "write", kind == "read")
        operation.stream = operation.stream.removeprefix("r->")
        check(operation.stream in STREAMS, f"{name} runs on {operation.stream}")
        for access in operation.accesses:
            if access.buffer in WORKSPACES:
                check(operation.stream in (COMPUTE, "side"), f"{operation.stream} has no workspace for {name}")
                access.buffer = SIDE_WORKSPACE if operation.stream == "side" else WORKSPACE

    def communication(self, name, arguments, operation):
        operation.stream, communicator = arguments[-1], arguments[-2].removeprefix("r->")
        check(operation.communicator in ("", communicator), f"a group on {communicator} and {operation.communicator}")
        operation.communicator = communicator
        if name in ("ncclSend", "ncclRecv"):
            send, count, size = name == "ncclSend", int(arguments[1]), NUMBERS[arguments[2]]
            if arguments[3] == "peer":  # all-to-all: the loop's messages cover the whole buffer
                operation.accesses += self.place(arguments[0], not send, send)
                return
            if found := re.fullmatch(r"\(r->tp \+ (\d+)\) % (\d+)", arguments[3]):  # a shift: all devices of the axis take part
                check(int(found[2]) == self.sizes[communicator] and 0 < int(found[1]) < int(found[2]), f"a shift to {arguments[3]}")
                operation.shifts.append((send, int(found[1]) if send else int(found[2]) - int(found[1]), count))
                operation.accesses += self.place(arguments[0], not send, send, count * size)
                return
            (access,) = self.place(arguments[0], not send, send, count * size)
            operation.accesses.append(access)
            operation.messages.append(Message(send, int(arguments[3]), count, arguments[2], access))
            return
        source, target, count, size = arguments[0], arguments[1], int(arguments[2]), NUMBERS[arguments[3]]
        check(name in ("ncclAllReduce", "ncclReduceScatter", "ncclAllGather"), f"what is {name}?")
        part, whole, in_place = count * size, count * size * self.sizes[communicator], source == target
        operation.accesses += self.place(source, in_place, True, whole if name == "ncclReduceScatter" else part)
        if not in_place:
            operation.accesses += self.place(target, True, False, whole if name == "ncclAllGather" else part)

    def exchange(self, name, arguments, operation):
        """As NCCL's call of the same kind, on the axis' stream."""
        axis, what, more = arguments[1].removeprefix("MP_").lower(), EXCHANGES[name], arguments[2:]
        stream = [f"r->{axis}_comm", f"r->{axis}_stream"]
        check(axis in ("dp", "tp"), f"{name} over {axis}")
        kind = {"MP_BF16": "ncclBfloat16", "MP_F32": "ncclFloat32", "MP_F64": "ncclFloat64"}[more[2 if name == "mp_all_reduce" else 3]]
        if name == "mp_all_reduce":
            more = [more[0], more[0], *more[1:]]
        if name == "mp_gather_rows": # a shift to each other device, in place
            n, apart = self.sizes[stream[0].removeprefix("r->")], more[2]
            base, piece = re.fullmatch(r"(.*?)( \+ \d+L)?", more[0]).groups(default="")
            for by in range(1, n):
                for call, rank in (("ncclSend", 0), ("ncclRecv", n - by)):
                    behind = f"(r->tp + {rank}) % {n}" if rank else "r->tp"
                    self.communication(call, [f"{base} + {behind} * {apart}L{piece}", more[1], kind, f"(r->tp + {by if call == 'ncclSend' else rank}) % {n}", *stream], operation)
            return
        if name == "mp_shift":
            n, by = self.sizes[stream[0].removeprefix("r->")], int(more[4])
            for call, place, peer in (("ncclSend", more[0], by), ("ncclRecv", more[1], n - by)):
                self.communication(call, [place, more[2], kind, f"(r->tp + {peer}) % {n}", *stream], operation)
            check({shift[1:] for shift in operation.shifts if shift[0]} == {shift[1:] for shift in operation.shifts if not shift[0]}, "a shift that is none")
            return
        self.communication(what, [more[0], more[1], more[2], kind, "ncclSum", *stream], operation)

    def send_and_receive(self, arguments, operation):
        """The rows of a table, in order: as a group of NCCL's calls, of which those that send say where it goes."""
        rows = self.tables.pop(arguments[1])
        check(len(rows) == int(arguments[2]), f"{arguments[1]} has {len(rows)} rows")
        for place, count, kind, stage, send, there in rows:
            kind = {"MP_BF16": "ncclBfloat16", "MP_F32": "ncclFloat32", "MP_F64": "ncclFloat64", "MP_I32": "ncclInt32"}[kind]
            self.communication({"true": "ncclSend", "false": "ncclRecv"}[send], [place, count, kind, stage, "r->pp_comm", "r->pp_stream"], operation)
            found = re.fullmatch(r"(\d+)(?: \+ (\w+) % (\d+) \* \(size_t\)(\d+))?", there)
            check(found and (send == "true" or there == "0"), f"what is {there!r}?")
            message = operation.messages[-1]
            check(not found[2] or not message.access.slot or found[2] == message.access.slot, f"{place} goes to {there}")
            message.there = (int(found[1]), int(found[3] or 1), int(found[4] or 0))

    def all_chunks(self, operation):
        """What the loop as a whole reads and writes: what a chunk makes and reads again is written; the first chunk adds to what
        was there if it adds to a sum over micro-batches."""
        self.chunks, kept, written = None, [], set()
        for access in operation.accesses:
            if access.adds:
                check(access.adds.endswith("chunk > 0"), f"{access.buffer} is not summed over chunks, but if {access.adds}")
                access.adds = access.adds.removesuffix("chunk > 0").removesuffix(" || ")
            if access.write or access.buffer not in written:
                kept.append(access)
            written |= {access.buffer} if access.write else set()
        operation.accesses = kept
        return operation

    def loop(self, layers, line, conditions):
        """The operations of all layers, one layer after another."""
        found = re.match(r"(\w+)\(r, (?:(\w+), )?layer\);$", line)
        check(found and found[1] in self.layers and not conditions and self.layer is None, f"what is repeated by {line!r}?")
        check(found[1] not in self.called, f"{found[1]} is called in two places")
        micro, lines, first_line = self.layers[found[1]]
        check(found[2] == micro, f"{found[1]} takes {micro}, {line} gives it {found[2]}")
        self.called.add(found[1])
        operations = []
        for self.layer in layers:
            operations += self.body(lines, first_line)
        self.layer = None
        return operations

    def body(self, lines, first_line):
        operations, conditions, comment, group, layers, table, alone = [], [], "", None, None, None, None
        for i, line in enumerate(lines):
            here, line = first_line + i, line.strip()
            if line.startswith("//"):
                comment = line[3:]
                continue
            condition = next((c for c in reversed(conditions) if c != "loop"), "")
            if found := re.match(r"if \((.+)\) \{", line):
                conditions.append({"r->evaluating": "evaluating"}.get(found[1], found[1]))
            elif found := LOOP.match(line):
                layers = layers_of(found)
            elif found := re.match(r"const struct mp_message (\w+)\[\] = \{$", line):
                table = self.tables[found[1]] = []
            elif found := re.match(r"\{(.*)\},$", line):
                table.append(split(found[1]))
            elif line == "};":
                table = None
            elif layers is not None:
                operations += self.loop(layers, line, conditions)
                layers = None
            elif re.match(r"for \(int peer = 0; peer < \d+; peer\+\+\) \{", line):
                conditions.append("loop")
            elif found := CHUNKS.match(line):
                conditions.append("loop")
                self.chunks, group = int(found[1]), Operation("step", "", here, condition, call="chunks", text=comment, layer=self.layer)
            elif line == "}":
                conditions.pop()
                if self.chunks:
                    operations.append(self.all_chunks(group))
                    group = None
            elif self.chunks and line in ("if (r->evaluating)", "continue;"): # a chunk's gradients belong to training
                pass
            elif found := re.match(r"if \(layer == (\d+)\)$", line):
                check(self.layer is not None and lines[i + 1].strip().startswith("CUDA(cudaStreamWaitEvent("), f"what has {line!r} before it?")
                alone = int(found[1])
            elif found := re.match(r"CUDA\(cudaStreamWaitEvent\(r->(\w+), r->event\[(.+)\], 0\)\);$", line):
                check(found[1] in STREAMS, f"what is {line}?")
                if alone in (None, self.layer):
                    operations.append(Operation("wait", found[1], here, condition, event=found[2], layer=self.layer))
                alone = None
            elif found := re.match(r"CUDA\(cudaEventRecord\(r->event\[(.+)\], r->(\w+)\)\);$", line):
                check(found[2] in STREAMS, f"what is {line}?")
                operations.append(Operation("record", found[2], here, condition, event=found[1], layer=self.layer))
            elif line == "NCCL(ncclGroupStart());":
                group = Operation("step", "", here, condition, call="group", text=comment, layer=self.layer)
            elif line == "NCCL(ncclGroupEnd());":
                sent, got = ({shift[1:] for shift in group.shifts if shift[0] == send} for send in (True, False))
                check(sent == got, f"{group.text}: sent are {sent}, received {got} (devices behind, elements)")
                operations.append(group)
                group = None
            else:
                found = re.match(r"(?:CUDA\(|NCCL\()?(\w+)\((.*)\);$", line)
                check(found, f"what is {line!r}?")
                arguments = found[2][:-1] if line.startswith(("CUDA(", "NCCL(")) else found[2]
                operation = group or Operation("step", "", here, condition, call=found[1], text=comment, layer=self.layer)
                self.call(found[1], split(arguments), operation, sum(o.kind == "step" for o in operations))
                if operation is not group:
                    operations.append(operation)
        check(not conditions and not group, "a block of a function stays open")
        return operations


def read_lists(lines):
    """{train, evaluate, infer: Actions}"""
    lists = {}
    for i, line in enumerate(lines):
        if found := re.match(r"static const struct mp_action (\w+)_actions\[\] = \{$", line):
            rows = [re.fullmatch(r'\t\{"(.+)", (\w+), (-?\d+), (-?\d+)\},', row) for row in lines[i + 1:lines.index("};", i)]]
            lists[found[1]] = [Action(row[1], row[2], int(row[3]), int(row[4])) for row in rows]
    return lists


def read_functions(lines, places, prototypes, workspace, sizes, updated):
    """{name: Function}, of those that actions run."""
    def inside(i):
        return lines[i + 2:lines.index("}", i)], i + 3

    layers = {found[1]: (found[2], *inside(i)) for i, line in enumerate(lines) if (found := LAYER_FUNCTION.match(line))}
    reader, functions = Reader(places, prototypes, workspace, sizes, layers, updated), {}
    for i, line in enumerate(lines):
        if found := re.match(r"static void (\w+)\(struct mp_rank \*r, int(?: (?!layer\))(\w+))?, int(?: (?!layer\))(\w+))?\)$", line):
            functions[found[1]] = Function(found[1], tuple(a for a in (found[2], found[3]) if a), reader.body(*inside(i)))
    check(reader.called == set(layers), f"nothing calls {sorted(set(layers) - reader.called)}")
    return functions


def begins_at(rows, size, buffer):
    """Where rows begin in a buffer whose elements have so many bytes, as the text says it."""
    of_rank = buffer.bytes // size // rows.ranks
    return (*((rows.rank, of_rank) if rows.ranks > 1 else (None, None)), rows.piece * (of_rank // rows.pieces))


def find_rows(operation, step, buffers):
    """Which rows each access of a call uses: those that the dump names, where the text says that they begin. A gather in place writes
    those of all others."""
    used, left = [], list(step.rows)
    for access in operation.accesses:
        some = [rows for name, write, rows in left if (name, write) == (access.buffer, access.write)]
        if not some:
            check(access.begins[2:] in ((), (0,)), f"{operation.text}: it uses some rows of {access.buffer}, in the dump all")
            used.append(access)
        elif operation.call in ("mp_all_gather", "ncclAllGather") and access.write:
            check(sorted(rows.rank for rows in some) == list(range(1, some[0].ranks)), f"{operation.text}: it gathers {some}")
            used += [dataclasses.replace(access, bytes=None, rows=rows) for rows in some]
        else:
            (rows,) = {rows for rows in some if access.begins in [begins_at(rows, size, buffers[access.buffer]) for size in (2, 4, 8)]} or {None}
            check(rows, f"{operation.text}: the rows of {access.buffer} begin at {access.begins}, in the dump they are {some}")
            used.append(dataclasses.replace(access, rows=rows))
    listed = {(name, write, rows) for name, write, rows in step.rows}
    check(listed == {(a.buffer, a.write, a.rows) for a in used if a.rows}, f"{operation.text}: {listed} in the dump")
    operation.accesses = used


def read_program(text, stage, places, prototypes, sizes):
    lines, buffers = text.splitlines(), dict(places.buffers)
    exchanges = list(map(int, re.search(r"^\t\{\{(\d+), (\d+)\}, \{(\d+), (\d+)\}, \{(\d+), (\d+)\}\}, // exchanges", text, re.M).groups()))
    for axis, offset, size in zip(("dp", "tp", "pp"), exchanges[::2], exchanges[1::2]):
        used = re.search(r"^\t+mp_messages\(" if axis == "pp" else rf"^\t+mp_\w+\(r, MP_{axis.upper()}, ", text, re.M)
        check(bool(used) == bool(size), f"the exchange over {axis} has {size} bytes")
        if size:
            buffers[EXCHANGE + axis] = Buffer(EXCHANGE + axis, "exchange", size, 1, offset, 0, None, None, None)
    offset, size = map(int, re.search(r"^\t(\d+), (\d+), // workspace", text, re.M).groups())
    if size:
        buffers[WORKSPACE] = Buffer(WORKSPACE, "workspace", size, 1, offset, 0, None, None, None)
    if size and re.search(r"\bmp_\w+\(.*, r->side\);$", text, re.M):
        buffers[SIDE_WORKSPACE] = Buffer(SIDE_WORKSPACE, "workspace", size, 1, offset + size, 0, None, None, None)
    sides = bool(re.search(r"\btrue, // the side stream has work$", text, re.M))
    check(sides == ("r->side" in text), f"program_{stage}.cu says {sides} of work on the side stream")
    table = re.search(r"^static const int updated\[\]\[13\] = \{\n(.*?)^\};", text, re.M | re.S)
    updated = [[int(n) for n in row.split(",")] for row in re.findall(r"\{(.*?)\}", re.sub("//.*", "", table[1]))] if table else []
    functions, lists = read_functions(lines, places, prototypes, bool(size), sizes, updated), read_lists(lines)
    for name, function in functions.items():
        steps = [operation for operation in function.operations if operation.kind == "step"]
        for operation, step in zip(steps, places.stage.functions.get(name, [])):
            find_rows(operation, step, buffers)
    constants = {name: int(value) for name, value in re.findall(r"^\t(\w+) = (\d+),?$", text, re.M)}
    arena = int(re.search(r"^\t(\d+), // bytes of the arena", text, re.M)[1])
    check(lists and functions, f"program_{stage}.cu was not understood")
    return Program(stage, buffers, constants, functions, lists, arena)


def read(folder, mesh, dumped):
    """The Programs of an emitted directory, by stage; mesh: (dp, tp, pp); dumped: what dump.read gives, for names of buffers."""
    sizes = dict(zip(("dp_comm", "tp_comm", "pp_comm"), mesh))
    places = memory.read((folder / "memory.h").read_text(), dumped)
    prototypes = read_prototypes((folder / "kernels.h").read_text())
    files = sorted(folder.glob("program_*.cu"), key=lambda path: int(path.stem.split("_")[1]))
    check(len(files) == len(places), f"{len(files)} programs and memory of {len(places)}")
    return [read_program(path.read_text(), i, places[i], prototypes, sizes) for i, path in enumerate(files)]
