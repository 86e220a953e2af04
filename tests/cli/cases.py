"""The command lines of mpgen and of emitted programs: NAME.sh and what it prints, NAME.expected: stdout, then stderr, then
`exit` with the status.

A case runs in an empty folder that has links to specs/ and tests/. What stands before a line `# ---` is preparation. With
a first line `# program: SPEC OPTIONS` there are also a link `program` to the folder of the program built from them (to its
binary when the case says ./program) and a few data sets. A case that ends with an error must leave every file as it was.
For a sequence of commands there is `run`, which shows each of them and checks the same (prelude.sh).

UPDATE=NAME tests/run cli/NAME writes the expected file of that case.
"""
import difflib
import os
import pathlib
import re
import shutil
import tempfile

import numpy

from lib import safetensors
from lib.harness import FASHION, MPGEN, ROOT, WORK, Case, Failure, Program, check, command

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM, PREPARED = "# program: ", "# ---\n"
SNAPSHOT = ". tests/cli/prelude.sh; snapshot ."


def write_data(folder):
    """Data for a model with 784 numbers and one of 10 labels a sample: good ones, and ones with one mistake."""
    image, label = numpy.zeros((128, 784), numpy.float32), numpy.arange(128, dtype=numpy.int32) % 10
    safetensors.write(folder / "good.safetensors", {"image": image, "label": label})
    safetensors.write(folder / "few.safetensors", {"image": image[:9], "label": label[:9]})
    safetensors.write(folder / "no_labels.safetensors", {"image": image})
    safetensors.write(folder / "wrong_size.safetensors", {"image": image[:, 1:], "label": label})
    safetensors.write(folder / "infinite.safetensors", {"image": image + numpy.float32("inf"), "label": label})
    label = label.copy()
    label[77] = 10
    safetensors.write(folder / "wrong_label.safetensors", {"image": image, "label": label})


def add_program(case, folder):
    """Builds what the case's first line asks for."""
    first = case.read_text().split("\n", 1)[0]
    if not first.startswith(PROGRAM):
        return
    spec, *options = first.removeprefix(PROGRAM).split()
    program = Program(ROOT / spec, *options)
    if case.read_text().count("./program ") and not case.read_text().count("program/"):
        (folder / "program").symlink_to(program.binary)
    else:
        (folder / "program").symlink_to(program.folder)
    write_data(folder)


def shown(text):
    """Without times and sizes, and without which of several ranks spoke first."""
    kept = "".join(line for line in text.splitlines(True) if not re.match(r"memory: rank |step \d+/", line))
    return re.sub(r"\brank \d+: ", "rank N: ", kept)


def run_case(case, folder, scratch):
    """What the case prints."""
    def shell(text, status=None):
        env = {"PATH": f"{MPGEN.parent}:{os.environ['PATH']}", "FASHION": FASHION, "scratch": scratch}
        return command("sh", "-c", text, cwd=folder, env=env, status=status)

    for name in ("specs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    add_program(case, folder)
    preparation, line, text = case.read_text().rpartition(PREPARED)
    if line:
        shell("set -e\n" + preparation, status=0)
    before = shell(SNAPSHOT).stdout
    result = shell(". tests/cli/prelude.sh\n" + text)
    check(result.status == 0 or shell(SNAPSHOT).stdout == before, f"it ended with {result.status} and changed files")
    return shown(result.stdout) + shown(result.stderr) + f"exit {result.status}\n"


def check_case(case):
    (WORK / "cli").mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=case.stem + "-", dir=WORK / "cli"))
    for name in ("case", "scratch"):
        (folder / name).mkdir()
    try:
        actual, expected = run_case(case, folder / "case", folder / "scratch"), case.with_suffix(".expected")
    finally:
        shutil.rmtree(folder)
    if os.environ.get("UPDATE") == case.stem:
        expected.write_text(actual)
    wanted = expected.read_text() if expected.exists() else ""
    difference = list(difflib.unified_diff(wanted.splitlines(), actual.splitlines(), expected.name, "actual", lineterm=""))
    if difference:
        print("\n".join("  " + line for line in difference))
        changed = next(line for line in difference[2:] if line[0] in "+-")
        raise Failure(f"{changed[:200]} (and so on: - expected, + printed)")


def every_expectation_has_a_case():
    lonely = [path.name for path in HERE.glob("*.expected") if not path.with_suffix(".sh").exists()]
    check(not lonely, f"without a command: {lonely}")


def cases(long):
    return [Case("every_expectation_has_a_case", every_expectation_has_a_case)] + [
        Case(case.stem, check_case, case, heavy=case.read_text().startswith(PROGRAM))
        for case in sorted(HERE.glob("*.sh")) if case.name != "prelude.sh"]
