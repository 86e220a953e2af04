"""Golden files: what is emitted, and dumps between passes, for a few small specs.

NAME.lua has beside it the folder NAME.expected. Its first line `-- run: OPTIONS` gives mpgen's options, its second
`-- keep: FILES` what is compared: emitted files, or dump:PASS. tests/run --update emit/NAME writes the folder.
"""
import re
import shutil
import statistics
import time

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
        golden.compare(spec.stem, expected / name.replace("dump:", "dump_"), text)
    known = {name.replace("dump:", "dump_") for name in keep.split()}
    stray = sorted({path.name for path in expected.iterdir()} - known)
    check(not stray, f"{stray} in {expected.name} are compared with nothing")


def lines_of_code(text):
    """Lines of emitted source, without those of tables."""
    return re.sub(r"(?m)^(static|extern) const [^\n]*= \{\n(\t.*\n)*\};\n", "", text).count("\n")


def same_lines():
    """Code does not grow with the number of equal layers, 12 against 96."""
    spec, counts = ROOT / "tests/equality/layers.lua", {}
    for mesh in ("1", "dp=2,tp=2", "pp=2"):
        for layers in (12, 96):
            folder = WORK / "emit/same_lines"
            shutil.rmtree(folder, ignore_errors=True)
            mpgen("-q", spec, "-D", f"layers={layers}", "--mesh", mesh, "-o", folder)
            files = sorted(folder.glob("program_*.cu")) + [folder / "kernels.cu", folder / "memory.h"]
            counts[layers] = {file.name: lines_of_code(file.read_text()) for file in files}
        check(counts[12] == counts[96], f"{mesh}: lines for 12 layers {counts[12]}, for 96 {counts[96]}")
        check(min(counts[96].values()) > 40, f"{mesh}: too few lines {counts[96]}")


def how_long():
    """The time that mpgen takes is printed, never asserted."""
    times = []
    for _ in range(9):
        begin = time.time()
        mpgen(ROOT / "specs/mlp.lua", "-o", WORK / "emit/how_long")
        times.append(1e3 * (time.time() - begin))
    print(f"@note mpgen specs/mlp.lua takes {statistics.median(times):.0f} ms (under 50 ms is wanted)")


def same_numbers():
    """Where the first layer of the backward pass stands apart, the loop over the others counts them as the loop over all does."""
    folder = WORK / "emit" / "same_numbers"
    shutil.rmtree(folder, ignore_errors=True)
    mpgen(ROOT / "specs/gpt2.lua", "-D", "layers=5", "--dtype", "bf16", "--mesh", "dp=2", "--zero", "1", "-o", folder)
    loops = re.findall(r"for \(int layer = (\d+); layer (?:<|>=) (\d+); layer", (folder / "program_0.cu").read_text())
    check(loops == [("0", "5"), ("4", "1")], f"loops from and to {loops}")
    accessors = re.findall(r" \*(\w+)\(const struct mp_rank", (folder / "memory.h").read_text())
    twice = [name for name in accessors if name.endswith("_also")]
    check(not twice, f"{len(twice)} names for what has one already: {twice[:3]}")
    check("h_attn_qkv_weight_bf16_all_gather" in accessors, "there is no family of gathered weights")


def cases(long):
    found = [Case(spec.stem, emitted, spec) for spec in sorted(HERE.glob("*.lua"))]
    return found + [Case("same_lines", same_lines), Case("same_numbers", same_numbers), Case("how_long", how_long)]
