"""The CUDA build: every shipped spec, on one device and on a product of all axes, compiles and links with nvcc. Nothing runs."""
import os
import pathlib
import re
import shutil

from lib.harness import ROOT, WORK, Case, Skip, check, command, mpgen

SHIPPED = [("mlp", []), ("sharded_linear", ["-D", "layer=column"]), ("sharded_linear", ["-D", "layer=row"]), ("sharded_linear", ["-D", "layer=pair"])]


def cuda():
    """The toolkit's folder, or a reason to skip."""
    for folder in (os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if folder and (pathlib.Path(folder) / "bin/nvcc").exists():
            return pathlib.Path(folder)
    on_path = shutil.which("nvcc")
    if on_path:
        return pathlib.Path(on_path).resolve().parents[1]
    raise Skip("nvcc is not installed: the CUDA build was not compiled")


def use_toolkit(folder, toolkit):
    rules = (folder / "build.ninja").read_text()
    (folder / "build-cuda.ninja").write_text(re.sub(r"(?m)^cuda = .*$", f"cuda = {toolkit}", rules))


def compile_and_link(name, spec, options):
    toolkit = cuda()
    folder = WORK / "cuda" / name
    shutil.rmtree(folder, ignore_errors=True)
    mpgen("-q", ROOT / f"specs/{spec}.lua", *options, "-o", folder)
    use_toolkit(folder, toolkit)
    command("ninja", "-C", folder, "-f", "build-cuda.ninja", limit=600)
    check((folder / "bin" / spec).exists(), f"ninja made no bin/{spec}")


def cases(long):
    found = []
    for spec, options in SHIPPED:
        layer = "-" + options[1].split("=")[1] if options else ""
        for mesh in (["1", "dp=2,tp=2,pp=2"] if spec == "mlp" or layer == "-pair" else ["1", "dp=2,tp=2"]):
            found.append(Case(f"{spec}{layer}-{mesh}", compile_and_link, f"{spec}{layer}-{mesh}", spec, [*options, "--mesh", mesh], heavy=True))
    if not long:  # one of each shipped spec on one device, all on the product
        found = [c for c in found if not c.name.endswith("-1") or c.name in ("mlp-1", "sharded_linear-pair-1")]
    return found
