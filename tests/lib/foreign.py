"""Suites that are not Python: a folder with run.sh or run.py, or with C tests only.

What such a program prints is taken over: its lines `ok NAME`, `FAIL NAME…` and `skip…`. A program that prints none of
the first two counts as one case by its exit status. tests/host has no program of its own: each *_test.c is linked with
test.c and the host runtime, and run.
"""
import re

from lib.harness import ROOT, WORK, Case, Failure, check, command

WARN = "-Wall -Wextra -Werror".split()


def run_program(program):
    """Prints what tests/run takes over: the program's own lines with @ before them."""
    env = {"MP_TEST_BUILD": WORK / f"{program[-1].parent.name}-build"}
    result = command(*program, cwd=ROOT, env=env, status=None, limit=900)
    print(result.stdout, result.stderr, sep="\n")
    lines = result.stdout.splitlines() + result.stderr.splitlines()
    cases = [line for line in lines if re.match(r"(ok|FAIL) \S", line)]
    for line in cases:
        print("@" + line)
    for line in lines:
        if re.match(r"skip", line):
            print("@skip", re.sub(r"^skip\w*:? *", "", line))
    failed = any(line.startswith("FAIL") for line in cases)
    check(result.status == 0 or failed, f"exit {result.status}: {' '.join(map(str, program))}")
    check(result.status != 0 or not failed, "a case failed and the program's exit status is 0")


def run_c_test(source):
    program = WORK / "c" / source.stem
    program.parent.mkdir(parents=True, exist_ok=True)
    runtime = sorted(path for path in (ROOT / "runtime/host").glob("*.c") if path.stem not in ("local", "marks", "gemm_tune"))
    options = ["-O2", "-g", "-march=native", "-ffp-contract=off", *WARN, f"-I{ROOT}/runtime/host", f"-I{ROOT}/runtime", f"-I{source.parent}"]
    activations = program.with_name(f"{source.stem}-activations.o")
    command("c++", "-x", "c++", "-std=c++17", *options, "-c", ROOT / "runtime/host/activations.cu", "-o", activations)
    command("cc", "-std=c11", *options, source, source.parent / "test.c", *runtime, activations, "-o", program,
            "-lopenblas", "-lm", "-lpthread")
    result = command(program, status=None)
    print(result.stdout, result.stderr, sep="\n")
    if result.status != 0:
        raise Failure(f"exit {result.status}: {(result.stderr.strip() or 'no message').splitlines()[-1]}")


def cases(folder):
    for name, interpreter in (("run.sh", "sh"), ("run.py", "/usr/bin/python3")):
        if (folder / name).exists():
            return [Case(folder.name, run_program, [interpreter, folder / name], heavy=True)]
    return [Case(source.stem, run_c_test, source) for source in sorted(folder.glob("*_test.c"))]
