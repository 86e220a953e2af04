"""What mpgen itself takes: the short form of `ninja bench`."""
import subprocess

from lib.harness import ROOT, Case, check


def generator():
    done = subprocess.run([ROOT / "tests/bench/generator", "--quick"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode == 0, done.stdout)


def cases(long):
    return [Case("generator", generator)]
