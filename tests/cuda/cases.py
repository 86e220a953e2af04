"""The CUDA build: the default target of what is emitted compiles and links with nvcc. No GPU is needed. And the kernels of
runtime/cuda that no host build runs, emulated on the CPU; products and copy engines on stand-ins for libraries and driver."""
import os
import pathlib
import shutil

from lib.harness import ROOT, WORK, Case, Program, Skip, check, command, fold, mpgen

ATTENDS = "tests/equality/attends.lua"
SHIPPED = [("specs/mlp.lua", ["-D", "momentum=0.9", "--mesh", "1"]), ("specs/mlp.lua", ["-D", "momentum=0.9", "--mesh", "dp=2,tp=2,pp=2"]),
           ("specs/sharded_linear.lua", ["-D", "layer=pair", "--mesh", "dp=2,tp=2,pp=2"]), ("specs/sharded_linear.lua", ["-D", "layer=column", "--mesh", "dp=2,tp=2"]),
           ("specs/convnet.lua", ["--mesh", "1"]), ("specs/resnet.lua", ["--mesh", "pp=2"]),
           ("specs/gpt2.lua", ["-D", "layers=2", "--dtype", "bf16", "--gradients", "bf16", "--mesh", "dp=2,tp=2", "--sequence-parallel", "--zero", "1"]),
           ("specs/llama.lua", ["-D", "layers=2", "--dtype", "bf16", "--mesh", "1"])]
LINEAR = [("specs/sharded_linear.lua", ["-D", f"layer={layer}", "--mesh", mesh]) for layer, mesh in (("pair", "1"), ("column", "1"), ("row", "1"), ("row", "dp=2,tp=2"))]
OTHERS = [("tests/equality/chains.lua", ["--mesh", "tp=2,pp=2"]), ("tests/equality/adamw.lua", ["--mesh", "dp=2,tp=2,pp=2"])]
MORE = [(ATTENDS, ["--mesh", "1", "--dtype", "bf16"]), ("tests/equality/biases.lua", ["--mesh", "1", "--dtype", "bf16"]),
        ("tests/equality/vocabulary.lua", ["--mesh", "dp=2", "--dtype", "bf16", "--gradients", "bf16", "--zero", "1"]),
        *LINEAR, ("tests/equality/skip_many.lua", ["--mesh", "dp=2,tp=2,pp=2"]), ("tests/equality/adamw.lua", ["--mesh", "dp=2,tp=2,pp=2", "--zero", "1"]),
        ("specs/mlp.lua", ["--mesh", "tp=4,pp=2", "--mode", "infer"]), ("specs/mlp.lua", ["--dtype", "tf32", "--mesh", "pp=4"])]


def cuda_folder():
    """Where the toolkit is, or None: nvcc is on the PATH or in /usr/local/cuda/bin."""
    nvcc = shutil.which("nvcc", path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin")
    return pathlib.Path(nvcc).resolve().parent.parent if nvcc else None


def compiles(spec, options):
    cuda = cuda_folder()
    if not cuda:
        raise Skip("there is no nvcc on the PATH or in /usr/local/cuda/bin")
    attends = spec == ATTENDS or "gpt" in spec or "llama" in spec
    cudnn = "conv" in spec or "resnet" in spec or (attends and "bf16" in options)
    if cudnn and not any((path / "cudnn.h").exists() for path in (cuda / "include", pathlib.Path("/usr/include"))):
        raise Skip("there is no cudnn.h beside nvcc or in /usr/include")
    folder = pathlib.Path(os.environ["MP_TEST_PROGRAMS"]) / fold(f"cuda-{pathlib.Path(spec).stem}-{'-'.join(options)}")
    shutil.rmtree(folder, ignore_errors=True)
    mpgen(ROOT / spec, *options, "-o", folder)
    rules = (folder / "build.ninja").read_text()
    check("\ncuda = /usr/local/cuda\n" in rules, "build.ninja does not say where CUDA is")
    (folder / "build-here.ninja").write_text(rules.replace("\ncuda = /usr/local/cuda\n", f"\ncuda = {cuda}\n"))
    result = command("ninja", "-j2", "-C", folder, "-f", "build-here.ninja")
    binary = folder / "bin" / pathlib.Path(spec).stem
    check(binary.exists(), f"{binary} was not made")
    check("warning" not in result.stdout, "the compiler warns: " + result.stdout[:300])
    check("Potential Performance Loss" not in result.stdout, "products of a kernel wait for one another: " + result.stdout[:300])
    libraries = command("ldd", binary).stdout
    check("libcublasLt" in libraries and "libcudart" in libraries and "libnccl" in libraries, f"it links {libraries}")
    check(("libcudnn" in libraries) == cudnn, f"it should link cuDNN exactly for convolutions and bf16 attention; it links {libraries}")


def build_emulated(source):
    """A C++ test that runs CUDA kernels thread by thread, see emulate.h."""
    binary = WORK / "cuda" / source.stem
    binary.parent.mkdir(parents=True, exist_ok=True)
    folders = [f"-I{ROOT}/{folder}" for folder in ("runtime/host", "runtime", "runtime/cuda", "tests/host", "tests/cuda")]
    command("c++", "-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", *folders, source, "-o", binary)
    return binary


def emulated(source):
    result = command(build_emulated(source), status=None)
    check(result.status == 0, (result.stderr.strip() or f"exit {result.status}").splitlines()[-1])


def attention_mistakes():
    """attention_sm90_test.cpp finds each of the mistakes."""
    folder, source = WORK / "cuda/attention_sm90", "../../runtime/cuda/attention_sm90.cu"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    test, text = (ROOT / "tests/cuda/attention_sm90_test.cpp").read_text(), (ROOT / "runtime/cuda/attention_sm90.cu").read_text()
    check(test.count(source) == 1, f"the test does not include {source}")
    (folder / "wrong_test.cpp").write_text(test.replace(source, str(folder / "wrong.cu")))
    for name, right, wrong in mistakes("attention_sm90_mistakes.txt"):
        check(text.count(right) == 1, f"{name}: attention_sm90.cu does not have, once, {right.strip()}")
        (folder / "wrong.cu").write_text(text.replace(right, wrong))
        result = command(build_emulated(folder / "wrong_test.cpp"), status=None)
        check(result.status, f"it is not found that {name}")
        print(f"{name}: {(result.stderr or f'exit {result.status}').splitlines()[0]}")


SANITIZERS = ("-g", "-fsanitize=address,undefined")


def build_engines(folder, source, binary, *more):
    """tests/cuda/engines_test.c on a source of copy engines; more: options of the compiler."""
    flags = ["-std=c11", "-O1", *more, "-Wall", "-Wextra", "-Werror",
             *(f"-I{ROOT}/{folder}" for folder in ("runtime/host", "runtime", "runtime/cuda", "tests/cuda/fake"))]
    objects = [binary.with_name(f"{binary.name}-{name}.o") for name in ("engines_test", "cuda")]
    for object, file in zip(objects, (ROOT / "tests/cuda/engines_test.c", ROOT / "tests/cuda/fake/cuda.c")):
        if not object.exists():
            command("cc", *flags, "-c", file, "-o", object)
    command("cc", *flags, *objects, source, "-lpthread", "-o", binary)


def mistakes(file):
    """(what it is, the lines that stand in a source, those that stand there instead) of a file of mistakes."""
    for block in (ROOT / "tests/cuda" / file).read_text().split("\n\n")[1:]:
        name, *lines = block.strip("\n").split("\n")
        yield name, *("".join(line[1:] + "\n" for line in lines if line[0] in " " + sign) for sign in "-+")


def engines():
    """The protocol of runtime/cuda/engines.c, and that its test finds each of the mistakes, without the help of sanitizers."""
    folder = WORK / "cuda/engines"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build_engines(folder, ROOT / "runtime/cuda/engines.c", folder / "right", *SANITIZERS)
    result = command(folder / "right", status=None)
    check(result.status == 0, (result.stderr.strip() or f"exit {result.status}").splitlines()[0])
    text = (ROOT / "runtime/cuda/engines.c").read_text()
    for name, right, wrong in mistakes("engines_mistakes.txt"):
        check(text.count(right) == 1, f"{name}: engines.c does not have, once, {right.strip()}")
        (folder / "wrong.c").write_text(text.replace(right, wrong))
        build_engines(folder, folder / "wrong.c", folder / "wrong")
        result = command(folder / "wrong", status=None)
        check(result.status, f"it is not found that {name}")
        print(f"{name}: {(result.stderr or f'exit {result.status}').splitlines()[0]}")


def products():
    """tests/gpu/gemm_test.c, and with it mp_gemm and --tune as they are on GPUs, on a stand-in for cuBLASLt."""
    binary = WORK / "cuda" / "gemm_test"
    binary.parent.mkdir(parents=True, exist_ok=True)
    host = [ROOT / f"runtime/host/{name}.c" for name in "device event memory trace errors comm group collective reduce".split()]
    command("cc", "-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/runtime/host", f"-I{ROOT}/runtime",
            f"-I{ROOT}/tests/cuda/fake", ROOT / "tests/gpu/gemm_test.c", ROOT / "tests/cuda/fake/cublasLt.c", ROOT / "runtime/cuda/gemm.c",
            ROOT / "runtime/cuda/gemm_tune.c", ROOT / "runtime/cuda/gemm_time.c", ROOT / "runtime/tune.c", *host, "-o", binary, "-lm", "-lpthread")
    tune = binary.with_suffix(".tune")
    result = command(binary, tune, status=None)
    check(result.status == 0, (result.stderr.strip() or f"exit {result.status}").splitlines()[-1])
    check("others than the first" in result.stdout and "warning: --tune" in result.stderr, f"it printed {result.stdout} {result.stderr}")
    rows = [line.split() for line in tune.read_text().splitlines()[4:]]
    check(len(rows) > 20 and all(row[8:13] == ["21.6000", "0.0", "15", "15", "40.0000"] for row in rows), f"not the fastest algorithms were chosen: {rows[:1]}")


def cases(long):
    plans = SHIPPED + [(ATTENDS, ["--mesh", "1"]), *OTHERS] + (MORE if long else [])
    sources = sorted((ROOT / "tests/cuda").glob("*_test.cpp"))
    return [Case(source.stem, emulated, source) for source in sources] + [
        Case("gemm_test", products), Case("engines_test", engines, heavy=True)] + (
        [Case("attention_sm90_mistakes", attention_mistakes)] if long else []) + [
        Case(fold(f"{pathlib.Path(spec).stem}-{'-'.join(options)}"), compiles, spec, options)
        for spec, options in plans]
