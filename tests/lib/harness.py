"""What the suites share: running mpgen, building what it emits, running that, and comparing.

A suite is a folder tests/NAME with a cases.py, whose cases(long) gives the list of its Cases; tests/run runs them.
Everything is written below build/tests. Emitted programs link one archive of the host runtime, built once for each
state of the runtime's sources; programs are kept until mpgen or the archive changes.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from lib import safetensors

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = pathlib.Path(os.environ.get("MP_TEST_WORK", ROOT / "build/tests"))
MPGEN = WORK / "mpgen"          # a copy, so that a build beside the tests changes nothing
FASHION = "/usr/share/datasets/fashion-mnist"
LIMIT = 300                     # seconds that one command may take


class Failure(Exception):
    """A check that failed; its text is the reason."""


class Skip(Exception):
    """A case that cannot run here; its text says why."""


class Case:
    """A test: check() returns, or raises Failure or Skip. A heavy case is started early."""

    def __init__(self, name, check, *arguments, heavy=False):
        self.name, self.check, self.arguments, self.heavy = name, check, arguments, heavy

    def run(self):
        self.check(*self.arguments)


def check(condition, reason):
    if not condition:
        raise Failure(reason)


# ---------------------------------------------------------------------------------------------------------
# Commands

class Result:
    def __init__(self, command, status, stdout, stderr):
        self.command, self.status, self.stdout, self.stderr = command, status, stdout, stderr


def environment(more):
    """The environment without what a launcher would say and without the host stand-in's modes."""
    launcher = re.compile(r"(RANK|WORLD_SIZE|LOCAL_RANK|MASTER_\w+|OMPI_\w+|PMI_\w+|SLURM_\w+|MP_HOST_\w+)$")
    kept = {k: v for k, v in os.environ.items() if not launcher.match(k)}
    return {**kept, "LC_ALL": "C", **{k: str(v) for k, v in (more or {}).items()}}


def command(*words, status=0, cwd=None, env=None, limit=LIMIT):
    """Runs a command; fails unless it ends with the status (None: any)."""
    words = [str(word) for word in words]
    print("$", *words, flush=True)
    try:
        done = subprocess.run(words, cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace", timeout=limit)
    except subprocess.TimeoutExpired as late:
        for stream in (late.stdout, late.stderr):
            print((stream or b"").decode(errors="replace")[-4000:])
        raise Failure(f"still running after {limit} s: {' '.join(words)}")
    result = Result(words, done.returncode, done.stdout, done.stderr)
    if status is not None and result.status != status:
        print(result.stdout[-4000:], result.stderr[-4000:], sep="\n")
        last = (result.stderr.strip() or result.stdout.strip()).split("\n")
        reason = next((line for line in last if "error" in line), last[0])
        raise Failure(f"exit {result.status}, not {status}: {reason[:300]} <- {' '.join(words)}")
    return result


def mpgen(*words, status=0, cwd=ROOT, env=None):
    return command(MPGEN, *words, status=status, cwd=cwd, env=env)


def explain(spec, *options):
    """The plan of a spec, as --explain=json prints it."""
    return json.loads(mpgen(spec, *options, "--explain=json").stdout)


# ---------------------------------------------------------------------------------------------------------
# Emitted programs

@contextlib.contextmanager
def locked(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(*parts):
    total = hashlib.sha256()
    for part in parts:
        total.update(part if isinstance(part, bytes) else str(part).encode())
        total.update(b"\0")
    return total.hexdigest()[:12]


def host_runtime():
    """The archive of the host runtime. The key is all that goes into it: sources and rules."""
    with locked(WORK / "runtime/lock"):
        folder = WORK / "runtime/probe"
        shutil.rmtree(folder, ignore_errors=True)
        mpgen("-q", ROOT / "specs/mlp.lua", "--mesh", "1", "-o", folder)
        sources = sorted((folder / "runtime").rglob("*.[ch]"))
        rules = (folder / "build.ninja").read_bytes().split(b"\nbuild ")[0]
        key = digest(rules, *[part for s in sources for part in (s.relative_to(folder), s.read_bytes())])
        kept = WORK / "runtime" / key
        if not (kept / "libmp-host.a").exists():
            for old in (WORK / "runtime").glob("????????????"):
                shutil.rmtree(old)
            command("ninja", "-C", folder, "build-host/libmp-host.a")
            kept.mkdir()
            shutil.move(folder / "build-host/libmp-host.a", kept / "libmp-host.a")
        return kept / "libmp-host.a"


def prepare():
    """Before the first case: the copy of mpgen and the archive; forgets programs of other states."""
    WORK.mkdir(parents=True, exist_ok=True)
    if not (ROOT / "build/mpgen").exists():
        sys.exit("tests/run: build/mpgen is missing: run ninja first")
    shutil.copy2(ROOT / "build/mpgen", MPGEN)
    archive = host_runtime()
    state = digest(MPGEN.read_bytes(), archive)
    for old in (WORK / "programs").glob("*"):
        if old.name != state:
            shutil.rmtree(old)
    os.environ["MP_TEST_RUNTIME"] = str(archive)
    os.environ["MP_TEST_PROGRAMS"] = str(WORK / "programs" / state)


def modules_of(spec):
    """The text of a spec and of the modules beside it: what decides what is emitted from it."""
    return b"".join(path.read_bytes() for path in sorted(pathlib.Path(spec).parent.glob("*.lua")))


def fold(text):
    return re.sub(r"[^\w.=,-]+", "_", text).strip("_")


class Program:
    """An emitted program and its host build, made once for each spec and options.

    edit: a function of the folder that changes what was emitted before it is built, and variant a name for it. optimize: built as users
    build it; else with less optimisation, which compiles three times as fast and gives the same bits."""

    def __init__(self, spec, *options, edit=None, variant="", optimize=False):
        spec = pathlib.Path(spec)
        self.spec, self.options = spec, [str(option) for option in options]
        variant, self.optimize = variant + "-optimized" * optimize, optimize
        name = fold("-".join([spec.stem, *[o.lstrip("-") for o in self.options], variant]))[:120]
        key = digest(spec, modules_of(spec), *self.options, variant)[:6]
        self.folder = pathlib.Path(os.environ["MP_TEST_PROGRAMS"]) / f"{name}-{key}"
        with locked(self.folder.with_suffix(".lock")):
            if not (self.folder / "built").exists():
                self.build(edit)
        (self.binary,) = (self.folder / "bin").glob("*-host")
        self.plan = json.loads((self.folder / "plan.json").read_text())

    def build(self, edit):
        shutil.rmtree(self.folder, ignore_errors=True)
        mpgen("-q", self.spec, *self.options, "-o", self.folder)
        if edit:
            edit(self.folder)
        rules = (self.folder / "build.ninja").read_text()
        archive = os.environ["MP_TEST_RUNTIME"]
        linked, count = re.subn(r"(?m)^host_runtime = .*$", f"host_runtime = {archive}", rules)
        check(count == 1, "build.ninja has no line 'host_runtime = …'")
        quick, count = re.subn(r"(?m)^(cflags = .*)$", r"\1" if self.optimize else r"\1 -O1", linked)
        check(count == 1, "build.ninja has no line 'cflags = …'")
        (self.folder / "build-host.ninja").write_text(quick)
        command("ninja", "-j2", "-C", self.folder, "-f", "build-host.ninja", "host")
        (self.folder / "built").touch()

    def run(self, *words, **more):
        return command(self.binary, *words, **more)

    def train(self, name, steps, *words, env=None):
        """A training run: its losses, final weights and checkpoint. name tells the runs of a program apart."""
        return Training(self, name, steps, words, env)

    def train_once(self, name, steps, *words):
        """The same, or what an earlier call left: for what many cases are compared with."""
        with locked(self.folder / f"run-{name}.lock"):
            return Training(self, name, steps, words, None, keep=True)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Training:
    """Files of a run: log, save/step_N, stdout."""

    def __init__(self, program, name, steps, words, env, keep=False):
        self.folder = program.folder / f"run-{name}"
        if not (keep and (self.folder / "stdout").exists()):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            result = program.run("--steps", steps, *words, "--log", self.folder / "log", "--save", self.folder / "save",
                                 env=env)
            (self.folder / "stdout").write_text(result.stdout)
        self.stdout = (self.folder / "stdout").read_text()
        self.log = (self.folder / "log").read_text()
        lines = [json.loads(line) for line in self.log.splitlines()]
        self.losses = [line["loss"] for line in lines if "loss" in line]
        self.norms = [line["grad_norm"] for line in lines if "grad_norm" in line]
        self.evaluations = [line for line in lines if "eval_loss" in line]
        self.checkpoint = self.folder / "save" / f"step_{steps}"
        check(len(self.losses) == steps, f"{len(self.losses)} losses in the log of {steps} steps")

    @property
    def loss_texts(self):
        """Losses and norms of gradients as they were printed, to the last digit."""
        return re.findall(r'"(?:eval_)?(?:loss|accuracy|grad_norm)":([^,}]*)', self.log)

    @property
    def weights(self):
        return safetensors.read(self.checkpoint / "model.safetensors")

    def checkpoint_bytes(self):
        """The content of every file of the checkpoint."""
        return {path.name: path.read_bytes() for path in sorted(self.checkpoint.iterdir())}


# ---------------------------------------------------------------------------------------------------------
# Comparing

def compare_numbers(what, actual, expected, tolerance):
    """Sequences of numbers, each within tolerance of the expected one, relatively."""
    check(len(actual) == len(expected), f"{what}: {len(actual)} values, not {len(expected)}")
    for i, (a, e) in enumerate(zip(actual, expected)):
        error = abs(a - e) / max(abs(e), 1e-300)
        check(error <= tolerance, f"{what} {i + 1}: {a!r}, not {e!r}: relative error {error:.2g} > {tolerance:g}")


def compare_tensors(actual, expected, tolerance):
    """{name: array}s: differences relative to the largest element of the expected tensor."""
    check(sorted(actual) == sorted(expected), f"tensors {sorted(actual)}, not {sorted(expected)}")
    for name, e in expected.items():
        a = actual[name]
        check(a.shape == e.shape, f"{name}: shape {a.shape}, not {e.shape}")
        if e.size == 0:
            continue
        error = abs(a - e).max() / max(abs(e).max(), 1e-300)
        check(error <= tolerance, f"{name}: error {error:.2g} of its largest element > {tolerance:g}")
