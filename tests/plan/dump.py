"""Reads what --dump synchronise prints."""
import collections
import dataclasses
import re

from lib.harness import check
from plan.memory import Buffer

Rows = collections.namedtuple("Rows", "rank ranks piece pieces")
Rows.__doc__ = """of the device `rank` ranks behind, of so many; of these a piece"""
STREAMS = {"compute": "compute", "side": "side", "dp": "dp_stream", "tp": "tp_stream", "pp": "pp_stream"}


@dataclasses.dataclass
class Step:
    stream: str
    when: str               # "", "first", "last" or "evaluating"
    waits: list             # "EVENT[0]"
    records: list           # reads, writes: (buffer, argument)
    reads: set = dataclasses.field(default_factory=set)
    writes: set = dataclasses.field(default_factory=set)
    rows: list = dataclasses.field(default_factory=list)        # (buffer, write, Rows) of what uses some rows alone


@dataclasses.dataclass
class Stage:
    buffers: dict = dataclasses.field(default_factory=dict)
    events: dict = dataclasses.field(default_factory=dict)      # {name: instances}
    families: dict = dataclasses.field(default_factory=dict)    # {name: (number of the first layer, names of buffers, by layer)}
    common: set = dataclasses.field(default_factory=set)        # families whose buffers lie at one address
    functions: dict = dataclasses.field(default_factory=dict)   # {name: Steps}
    lists: dict = dataclasses.field(default_factory=dict)       # {name: names of actions}


def read_line(stage, steps, line):
    if found := re.match(r"  buffer (\S+) (\w+) (\d+) bytes x (\d+) at (\d+)", line):
        name, kind, size, slots, offset = found.groups()
        stage.buffers[name] = Buffer(name, kind, int(size), int(slots), int(offset), None, None, None, None)
    elif found := re.match(r"  family (\S+)( common)? from (\d+):((?: \S+)+)$", line):
        stage.families[found[1]] = int(found[3]), found[4].split()
        stage.common |= {found[1]} if found[2] else set()
    elif found := re.match(r"  event (\S+) x (\d+)$", line):
        stage.events[found[1]] = int(found[2])
    elif found := re.match(r"  (train|evaluate|infer): (.*)$", line):
        stage.lists[found[1]] = found[2].split()
    elif found := re.match(r"  (\w+)$", line):
        return stage.functions.setdefault(found[1], [])
    elif found := re.match(r"    \w+ \S+ on (\w+)( first| last| evaluating)?( accumulate)?:", line):
        steps.append(Step(STREAMS[found[1]], (found[2] or "").strip(), re.findall(r" wait (\S+)", line), re.findall(r" record (\S+)", line)))
    elif re.match(r"      (read|write) ", line):
        for kind, name, argument, *rows in re.findall(r"(read|write) (\w+)\[(\d)\](?:\+(\d+)/(\d+)\.(\d+)/(\d+))?", line):
            (steps[-1].reads if kind == "read" else steps[-1].writes).add((name, int(argument)))
            if rows[0]:
                steps[-1].rows.append((name, kind == "write", Rows(*map(int, rows))))
    else:
        check(False, f"--dump synchronise was not understood: {line!r}")
    return steps


def read(text):
    stages, steps = [], None
    for line in text.splitlines():
        if re.match(r"stage \d+$", line):
            check(line == f"stage {len(stages)}", f"the dump's stages are out of order: {line}")
            stages.append(Stage())
        else:
            steps = read_line(stages[-1], steps, line)
    return stages
