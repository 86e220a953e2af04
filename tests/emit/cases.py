"""Golden files: what is emitted, and dumps between passes, for a few small specs.

NAME.lua has beside it the folder NAME.expected. Its first line `-- run: OPTIONS` gives mpgen's options, its second
`-- keep: FILES` what is compared: emitted files, or dump:PASS. tests/run --update emit/NAME writes the folder.
"""
import re
import shutil

from lib import golden
from lib.harness import ROOT, WORK, Case, check, mpgen

HERE = ROOT / "tests/emit"


def emitted(spec):
    run, keep = re.match(r"-- run: (.*)\n-- keep: (.*)\n", spec.read_text()).groups()
    folder, expected = WORK / "emit" / spec.stem, spec.with_suffix(".expected")
    shutil.rmtree(folder, ignore_errors=True)
    mpgen(spec.relative_to(ROOT), *run.split(), "-o", folder)
    for name in keep.split():
        if name.startswith("dump:"):
            text = mpgen(spec.relative_to(ROOT), *run.split(), "--dump", name[5:]).stdout
        else:
            text = (folder / name).read_text()
        golden.compare(expected / name.replace("dump:", "dump_"), text)
    known = {name.replace("dump:", "dump_") for name in keep.split()}
    stray = sorted({path.name for path in expected.iterdir()} - known)
    check(not stray, f"{stray} in {expected.name} are compared with nothing")


def cases(long):
    return [Case(spec.stem, emitted, spec) for spec in sorted(HERE.glob("*.lua"))]
