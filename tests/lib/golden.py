"""Expected results beside their cases. tests/run --update SUITE/CASE, or UPDATE=CASE in the environment, writes those of
one case, to be reviewed."""
import difflib
import os

from lib.harness import Failure


def compare(case, path, actual):
    """The text of a file, line by line."""
    if os.environ.get("UPDATE") == case:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(actual)
        return
    if not path.exists():
        raise Failure(f"{path} is missing: tests/run --update SUITE/CASE writes it")
    expected = path.read_text()
    if actual != expected:
        lines = list(difflib.unified_diff(expected.splitlines(), actual.splitlines(), str(path), "actual", lineterm="", n=2))
        print(*lines, sep="\n")
        first = next((line for line in lines[2:] if line[0] in "+-"), "the end of a line")
        raise Failure(f"{path.name} differs: {first[:150]}")
