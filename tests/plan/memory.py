"""Reads memory.h: where each accessor says that its bytes lie, in every layer.

An accessor belongs to one buffer, or to a family: the buffers that stand in one place of equal layers. The addresses come
from the text alone, whichever form it has: a formula, a table, a condition on the layer, a call of another accessor.
Members of a family have no name in memory.h where nothing but the layers uses them; they take the dump's.
"""
import collections
import dataclasses
import re

from lib.harness import check

Buffer = collections.namedtuple("Buffer", "name kind bytes slots offset stride function first last")
Buffer.__doc__ = """kind: parameters … scratch, workspace; function, first, last: where memory.h says that scratch lives, else
None"""
Place = collections.namedtuple("Place", "offset slots stride")

ACCESSOR = re.compile(r"static inline \w+ \*(\w+)\(const struct mp_rank \*r(, int mb)?(, int layer)?\) \{ (?:static const struct mp_place "
                      r"at\[\] = \{(.*)\}; )?return (.*); \} // .*?, (\d+) bytes(?:, (\d+) layers|, layers (\d+) to (\d+)|, (\w+) steps? (\d+)(?: to (\d+))?)?$")
ROW = re.compile(r"\{(\d+), (\d+), (\d+)\}")
CONDITION = re.compile(r"layer (==|<|>) (\d+) \? (.*) : (.*)$")
CALL = re.compile(r"(\w+)\(r((?:, (?:mb|layer(?: [+-] 1)?|\d+))*)\)$")
FORMULA = re.compile(r"\(\w+ \*\)\(r->arena \+ (\d+(?: [+-] (?:layer|\(layer - \d+\)) \* \(size_t\)\d+)?)(?: \+ mb % (\d+) \* \(size_t\)(\d+))?\)$")
LOOKUP = re.compile(r"\(\w+ \*\)\(r->arena \+ at\[(layer(?: - \d+)?)\]\.offset( \+ mb % at\[\1\]\.slots \* at\[\1\]\.stride)?\)$")
HOLDS = {"==": lambda a, b: a == b, "<": lambda a, b: a < b, ">": lambda a, b: a > b}


@dataclasses.dataclass
class Accessor:
    name: str
    kind: str           # of its section; the section of other layers says none
    slotted: bool       # whether it takes a micro-batch, a layer
    layered: bool
    table: list         # of Places
    value: str          # what it returns
    bytes: int
    layers: range       # their numbers; None: it is one buffer's
    life: tuple         # function, first, last


def number(expression, names):
    """The value of a C expression of whole numbers."""
    check(re.fullmatch(r"[\w\s+*%><=()-]+", expression), f"what is the expression {expression!r}?")
    return int(eval(expression, {"__builtins__": {}}, names))


def read_accessor(line, kind):
    found = ACCESSOR.match(line)
    check(found, f"memory.h was not understood: {line}")
    name, slotted, layered, rows, value, size, layers, base, end, function, first, last = found.groups()
    table = [Place(*map(int, row)) for row in ROW.findall(rows or "")]
    check(not rows or ROW.sub("", rows).strip(", ") == "", f"memory.h: what is in the table of {name}?")
    life = (function, int(first), int(last or first)) if function else (None, None, None)
    numbers = range(int(layers)) if layers else range(int(base), int(end) + 1) if base else None
    return Accessor(name, kind, bool(slotted), bool(layered), table, value, int(size), numbers, life)


def read_accessors(text):
    """[{name: Accessor}, …] by program."""
    programs, kind = [], ""
    for line in text.splitlines():
        if re.match(r"#(el)?if MP_PROGRAM == ", line):
            programs.append({})
        elif line in ("// of the layer before, or the next one", "// of one layer"):
            kind = ""
        elif found := re.match(r"// (\w+)( state)?(:|$| of equal layers$)", line):
            kind = found[1]
        elif line.startswith("static inline"):
            accessor = read_accessor(line, kind)
            check(accessor.name not in programs[-1], f"memory.h defines {accessor.name} twice")
            programs[-1][accessor.name] = accessor
    return programs


class Memory:
    """What one program's accessors say. stage: the dump's, for the names and kinds of members: a family stands in the section
    of its last one.

    families: {accessor: (number of the first layer, names of its buffers, by layer)}; buffers: {name: Buffer}, all that memory.h gives an address."""

    def __init__(self, accessors, stage):
        self.accessors, self.stage, self.families, self.buffers = accessors, stage, stage.families, {}
        self.kinds = {name: buffer.kind for name, buffer in stage.buffers.items()}
        self.order = {name: i for i, name in enumerate(accessors)}
        known = {name for name, accessor in accessors.items() if accessor.layers}
        check(known == set(self.families), f"families in memory.h and in the dump differ: {sorted(known ^ set(self.families))}")
        for name, accessor in accessors.items():
            base, members = self.families.get(name, (0, []))
            check(accessor.layers in (None, range(base, base + len(members))), f"memory.h: {name} has {accessor.layers} layers")
            takes = name in self.families and name not in stage.common
            check(accessor.layered == takes, f"memory.h: {name} takes {'a' if accessor.layered else 'no'} layer")
        for name, accessor in accessors.items():
            for layer in accessor.layers or [None]:
                self.add(accessor, layer)
            check(accessor.slotted == bool(re.search(r"\bmb\b", accessor.value)), f"memory.h: {name} ignores its micro-batch")

    def name_of(self, accessor, layer):
        """The buffer of an accessor, in a layer of those of a family."""
        if accessor.layers is None:
            return accessor.name
        check(layer in accessor.layers, f"{accessor.name} is used in layer {layer} of {accessor.layers}")
        base, members = self.families[accessor.name]
        return members[layer - base]

    def place(self, accessor, layer):
        """Place of an accessor's bytes; every accessor that it calls means the same buffer."""
        value = accessor.value
        if found := CONDITION.match(value):
            value = found[3] if HOLDS[found[1]](layer, int(found[2])) else found[4]
        if found := CALL.match(value):
            return self.called_place(accessor, layer, found[1], found[2].split(", ")[1:])
        if found := LOOKUP.match(value):
            check(layer is not None, f"memory.h: {accessor.name} has rows for layers")
            index = number(found[1], {"layer": layer})
            check(0 <= index < len(accessor.table) == len(accessor.layers), f"memory.h: {accessor.name} has no row {index}")
            row = accessor.table[index]
            check(found[2] or row.slots == 1, f"memory.h: {accessor.name} ignores its micro-batch")
            return row
        found = FORMULA.match(value)
        check(found, f"memory.h was not understood: {accessor.name} returns {accessor.value}")
        offset = number(found[1].replace("(size_t)", ""), {"layer": layer})
        return Place(offset, int(found[2] or 1), int(found[3] or 0))

    def called_place(self, accessor, layer, name, arguments):
        """The same, where an accessor calls another one."""
        called, text = self.accessors.get(name), f"memory.h: {accessor.name} calls {name}({', '.join(arguments)})"
        check(called and self.order[name] < self.order[accessor.name], f"{text}, which is not defined before it")
        check(len(arguments) == called.slotted + called.layered, f"{text}, which takes other arguments")
        inner = number(arguments[-1], {"layer": layer}) if called.layered else layer
        if called.layered or called.layers is None:
            names = self.name_of(accessor, layer), self.name_of(called, inner)
            check(names[0] == names[1], f"{text} in layer {layer}: {names[1]}, not {names[0]}")
        place = self.place(called, inner)
        check(not called.slotted or arguments[0] == "mb" or place.slots == 1, f"{text}: it has {place.slots} slots")
        return place

    def add(self, accessor, layer):
        """Notes where a buffer lies; accessors that mean the same one agree."""
        name, place = self.name_of(accessor, layer), self.place(accessor, layer)
        stride = place.stride if place.slots > 1 else 0
        last = accessor.layers is None or layer == accessor.layers[-1]
        kind = last and accessor.kind or self.kinds.get(name)
        buffer = Buffer(name, kind, accessor.bytes, place.slots, place.offset, stride, *accessor.life)
        other = self.buffers.setdefault(name, buffer)
        check(other[1:6] == buffer[1:6], f"memory.h: {accessor.name} of layer {layer} is {buffer}, elsewhere it is {other}")
        if accessor.layers is None:  # it alone says where the buffer lives
            self.buffers[name] = buffer

    def find(self, name, layer):
        """(Accessor, Buffer) of a call in emitted code; layer: that of the loop around it, or None."""
        check(name in self.accessors, f"{name} is not in memory.h")
        accessor = self.accessors[name]
        return accessor, self.buffers[self.name_of(accessor, layer)]


def read(text, dumped):
    """The Memory of every program; dumped: the Stages of the dump."""
    programs = read_accessors(text)
    check(len(programs) == len(dumped), f"memory of {len(programs)} programs, {len(dumped)} stages")
    return [Memory(*pair) for pair in zip(programs, dumped)]
