"""The command lines of mpgen and of emitted programs: NAME.sh holds commands, NAME.expected what they print and how they
end. prelude.sh says what a case can use.

UPDATE=NAME tests/run cli/NAME writes the expected file of that case.
"""
import difflib
import os
import pathlib
import shutil
import tempfile

from lib.harness import MPGEN, ROOT, WORK, Case, Failure, Program, command

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = "# program: "


def program_of(case):
    """The program that the case's first line asks for, or None."""
    first = case.read_text().split("\n", 1)[0]
    if not first.startswith(PROGRAM):
        return None
    spec, *options = first.removeprefix(PROGRAM).split()
    return Program(ROOT / spec, *options)


def run_case(case):
    """What the case prints, in a folder of its own."""
    program = program_of(case)
    (WORK / "cli").mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=case.stem, dir=WORK / "cli"))
    try:
        (folder / "case").mkdir()
        (folder / "scratch").mkdir()
        (folder / "case/specs").symlink_to(ROOT / "specs")
        (folder / "case/cli").symlink_to(HERE)
        if program:
            (folder / "case/program").symlink_to(program.folder)
        env = {"PATH": f"{MPGEN.parent}:{os.environ['PATH']}", "scratch": folder / "scratch"}
        result = command("sh", "-c", ". cli/prelude.sh; . cli/" + case.name, cwd=folder / "case", env=env, status=None)
        return result.stdout + result.stderr
    finally:
        shutil.rmtree(folder)


def check_case(case):
    actual, expected = run_case(case), case.with_suffix(".expected")
    if os.environ.get("UPDATE") == case.stem:
        expected.write_text(actual)
        return
    wanted = expected.read_text() if expected.exists() else ""
    difference = list(difflib.unified_diff(wanted.splitlines(), actual.splitlines(), expected.name, "actual", lineterm=""))
    if difference:
        print("\n".join(difference))
        changed = next(line for line in difference[2:] if line[0] in "+-")
        raise Failure(f"{changed[:200]} (and so on: - expected, + printed)")


def cases(long):
    return [Case(case.stem, check_case, case, heavy=case.read_text().startswith(PROGRAM))
            for case in sorted(HERE.glob("*.sh")) if case.name != "prelude.sh"]
