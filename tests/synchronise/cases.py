"""Synchronisation of emitted code: every wait is needed, and all that is needed are there.

The host stand-in can delay each operation to its latest legal moment (MP_HOST_MODE=late) or run streams in a random
order (random:SEED). A program as emitted computes the same bits in every mode. With one cudaStreamWaitEvent deleted it
does not in some mode: it gives other numbers, or fails.
"""
import itertools
import json
import re

from lib.harness import ROOT, Case, Failure, Program, check, command, environment

WAIT = re.compile(r"^\tCUDA\(cudaStreamWaitEvent\(.*\n", re.M)
STEPS = 4
MODES = ["late", "random:1", "random:2", "random:3", "eager"]
PLANS = {
    "pp=2": ["--mesh", "pp=2", "--microbatches", 4],
    "dp=2,tp=2": ["--mesh", "dp=2,tp=2", "--microbatches", 2],
    "tp=2,pp=2": ["--mesh", "tp=2,pp=2", "--microbatches", 4, "--schedule", "GPipe"],
    "pp=4": ["--mesh", "pp=4", "--microbatches", 8],
}
SMALL = ["-D", "width=64", "-D", "momentum=0.9", "-D", "lr=0.1"]


def losses(program, mode, limit=60):
    """The losses as texts, or what it failed with."""
    log = program.folder / f"log-{mode.replace(':', '-')}"
    try:
        result = command(program.binary, "--data", "synthetic", "--steps", STEPS, "--log", log, "--timeout", 20, status=None,
                         env={"MP_HOST_MODE": mode}, limit=limit)
    except Failure as why:
        return str(why)
    if result.status != 0:
        return result.stderr
    return re.findall(r'"loss":([^,}]*)', log.read_text())
