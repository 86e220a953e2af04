"""What mpgen itself takes: the short form of `ninja bench`. And that the benchmarks of GPU machines still read what is emitted."""
import re
import subprocess

from lib.harness import ROOT, WORK, Case, check, command, mpgen


def generator():
    done = subprocess.run([ROOT / "tests/bench/generator", "--quick"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode == 0, done.stdout)


def gemms():
    """The table of products of an emitted program and the rows that --tune would write for it."""
    out = WORK / "bench-gemms"
    mpgen("-q", ROOT / "specs/gpt2.lua", "-D", "size=350M", "--dtype", "bf16", "--batch", 32, "--mesh", "tp=2", "--sequence-parallel", "-o", out)
    rows = set()
    for row in re.findall(r'^\t\{"[^"]*", (\d+), (\d+), (\d+), MP_(\w\w), MP_(\w+), MP_BF16, MP_(\w+), false, (\d+)\},$', (out / "program_0.cu").read_text(), re.M):
        m, n, k, transpose, epilogue, kind, alignment = row
        rows.add(f"{transpose} {m} {n} {k} bf16 {kind.lower()} {epilogue.replace('NO_EPILOGUE', 'NONE')} {alignment}"
                 + "  0.5000 500.0  2 8 0.7500  0 00")
    check(len(rows) > 10, f"{len(rows)} products were read")
    (out.parent / "bench-gemms.tune").write_text("\n".join(sorted(rows)) + "\n")
    shown = command(ROOT / "tests/bench/gemms", "--file", out.parent / "bench-gemms.tune", out / "program_0.cu").stdout
    total = re.search(r"^ *(\d+) +([\d.]+) ms in all, ([\d.]+) by the first candidates$", shown, re.M)
    check(total and "not in the file" not in shown and float(total[2]) == 0.5 * int(total[1]) and int(total[1]) > 24 * 12, shown)


def cases(long):
    return [Case("generator", generator), Case("gemms", gemms)]
