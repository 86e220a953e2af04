#!/usr/bin/env python3
"""Runs the hand-written program of tiny.cu on the host and checks what users of emitted programs rely on: exit statuses,
messages, logs, launching, stopping, resuming. Usage: run.py [NAME...]; prints "ok NAME" or "FAIL NAME: why"."""
import json, math, os, pathlib, re, shutil, signal, socket, struct, subprocess, sys, tempfile, time

here = pathlib.Path(__file__).resolve().parent
bin = pathlib.Path(os.environ.get("MP_TEST_BUILD", "/tmp/mp-runtime-tests"))
LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "openmpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "pmi": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}


def environment(**more):
    known = {name for names in LAUNCHERS.values() for name in names} | {"MASTER_ADDR", "MASTER_PORT", "FAULT"}
    return {**{k: v for k, v in os.environ.items() if k not in known}, **{k: str(v) for k, v in more.items()}}


def start(program, *arguments, **more):
    return subprocess.Popen([bin / program, *map(str, arguments)], env=environment(**more), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(program, *arguments, **more):
    """(exit status, stdout, stderr)"""
    return finish(start(program, *arguments, **more))


def finish(process):
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill() # the other ranks end with it
        raise
    return process.returncode, out, err


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return min(s.getsockname()[1], 60000)


def launch(programs, *arguments, launcher="torchrun", world=None, **more):
    """Starts a process for each rank, as a launcher does."""
    rank, size, local = LAUNCHERS[launcher]
    more = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), **more}
    return [start(program, *arguments, **{rank: k, size: world or len(programs), local: k}, **more)
            for k, program in enumerate(programs)]


def log(path):
    return [json.loads(line) for line in open(path)]


def losses(path):
    return [line["loss"] for line in log(path) if "loss" in line]


def expect(condition, *why):
    if not condition:
        raise AssertionError(" ".join(map(str, why)))


def expect_failure(result, status, *words):
    expect(result[0] == status, "status", result[0], "instead of", status, result)
    for word in words:
        expect(word in result[2], repr(word), "is not in", repr(result[2]))


def write_tensors(path, **tensors):
    """name=(dtype, shape, flat values)"""
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        new = struct.pack("<%d%s" % (len(values), {"F32": "f", "I32": "i"}[dtype]), *values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(new)]}
        data += new
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_tensors(path):
    bytes = path.read_bytes()
    n = struct.unpack("<Q", bytes[:8])[0]
    header = json.loads(bytes[8:8 + n])
    header.pop("__metadata__", None)
    return {name: (t["shape"], struct.unpack("<%df" % math.prod(t["shape"]), bytes[8 + n:][slice(*t["data_offsets"])]))
            for name, t in header.items()}


# ---- options

def test_help(_):
    status, out, _ = run("train1", "--help")
    expect(status == 0 and "--eval-every N" in out and "--output" not in out and "--tune" not in out, out)


def test_usage(_):
    data = ["--data", "synthetic"]
    expect_failure(run("train1", "--stpes", "3"), 2, "--stpes", "did you mean --steps?")
    expect_failure(run("train1", "--log-evry=3"), 2, "did you mean --log-every?")
    expect_failure(run("train1", "--qqqqqqqqq"), 2, "unknown option --qqqqqqqqq (")
    expect_failure(run("train1", "-x"), 2, "unknown option -x")
    expect_failure(run("train1", "--steps"), 2, "--steps needs an argument")
    expect_failure(run("train1", "--one-gpu=yes"), 2, "takes no argument")
    expect_failure(run("train1", *data, "--steps", "many"), 2, "--steps needs a whole number", "many")
    expect_failure(run("train1", *data, "--log-every", "0"), 2, "--log-every needs a whole number from 1")
    expect_failure(run("train1", *data, "--seed=-1"), 2, "--seed needs")
    expect_failure(run("train1", *data, "--order", "random"), 2, "shuffled or file")
    expect_failure(run("train1", *data, "more"), 2, '"more"')
    expect_failure(run("train1", *data, "--tune", "f"), 2, "--tune is not built yet")
    expect_failure(run("train1", *data, "--output", "f"), 2, "inference", "--mode train")
    expect_failure(run("infer1", *data, "--save", "f"), 2, "training", "--mode infer")
    expect_failure(run("infer1", *data), 2, "--output is missing")
    expect_failure(run("train1"), 2, "--data is missing")
    expect_failure(run("train1", *data, "--eval-every", "2"), 2, "needs --eval")
    expect_failure(run("train1", *data, "--save-every", "2"), 2, "needs --save")
    expect_failure(run("train1", *data, "--allow-missing"), 2, "needs --load")


def test_unwritable_log(_):
    expect_failure(run("train1", "--data", "synthetic", "--log", "/nowhere/log"), 4, "/nowhere/log")


# ---- the loop

def test_memory_lines(_):
    status, out, err = run("train2", "--data", "synthetic", "--steps", "1")
    lines = re.findall(r"^memory: rank (\d+) allocates (\d+) bytes$", out, re.M)
    expect(status == 0 and lines == [("0", "16384"), ("1", "16384"), ("2", "16640"), ("3", "16640")], out, err)


def test_learns(tmp):
    status, out, err = run("train1", "--data", "synthetic", "--steps", 300, "--log", tmp / "log", "--eval", "synthetic")
    lines = log(tmp / "log")
    expect(status == 0, err)
    expect([x["step"] for x in lines] == list(range(1, 301)) + [300])
    expect(list(lines[0]) == ["step", "loss", "lr", "step_ms", "samples_per_s"], lines[0])
    expect(list(lines[-1]) == ["step", "eval_loss", "eval_accuracy"], lines[-1])
    expect(lines[-1]["eval_loss"] < 0.9 * lines[0]["loss"], lines[0], lines[-1])
    for x in lines[:-1]:
        loss = x["loss"]
        expect(float("%.9g" % struct.unpack("f", struct.pack("f", loss))[0]) == loss, "digits of", loss)


def test_learning_rate(tmp):
    run("warm1", "--data", "synthetic", "--steps", 10, "--log", tmp / "log")
    want = [0.1 * (s + 1) / 3 if s < 3 else 0.1 * (10 - s) / 7 for s in range(10)]
    expect(all(abs(a["lr"] - b) < 1e-8 for a, b in zip(log(tmp / "log"), want)), log(tmp / "log"))


def test_data_parallel_equal(tmp):
    for program in "train1", "train2":
        expect(run(program, "--data", "synthetic", "--steps", 50, "--log", tmp / program)[0] == 0)
    one, two = losses(tmp / "train1"), losses(tmp / "train2")
    expect(len(one) == 50 and all(abs(a - b) < 1e-5 for a, b in zip(one, two)), one[-1], two[-1])


def test_log_every(tmp):
    run("train1", "--data", "synthetic", "--steps", 10, "--log-every", 4, "--log", tmp / "log")
    expect([x["step"] for x in log(tmp / "log")] == [4, 8, 10], log(tmp / "log"))


def test_eval_every(tmp):
    run("train1", "--data", "synthetic", "--steps", 6, "--eval", "synthetic", "--eval-every", 3, "--log", tmp / "log")
    expect([x["step"] for x in log(tmp / "log") if "eval_loss" in x] == [3, 6], log(tmp / "log"))


def test_seed(tmp):
    for name, seed in ("a", 7), ("b", 7), ("c", 8):
        run("train1", "--data", "synthetic", "--steps", 3, "--seed", seed, "--log", tmp / name)
    expect(losses(tmp / "a") == losses(tmp / "b") != losses(tmp / "c"))


def test_random_key(tmp):
    """Seed and step, on every rank, also when a run goes on; evaluation and inference have one too."""
    def keys(program, rank, *arguments):
        status, out, err = run(program, "--data", "synthetic", "--seed", 2 ** 32 * 5 + 2 ** 31, *arguments, FAULT=f"key:{rank}:0")
        expect(status == 0, err)
        return re.findall(r"^key -2147483648 5 (\d+ 0.*)$", out, re.M)

    for rank in 0, 1:
        found = keys("train1", rank, "--steps", 3, "--eval", "synthetic", "--save", tmp / "ck")
        expect(found[:3] == ["0 0", "1 0", "2 0"] and set(found[3:]) == {"2 0 evaluating"}, found)
    found = keys("train1", 1, "--steps", 5, "--load", tmp / "ck")
    expect(found == ["3 0", "4 0"], found)
    found = keys("train1", 0, "--steps", 0, "--eval", "synthetic")
    expect(set(found) == {"0 0 evaluating"}, found)
    found = keys("infer1", 0, "--load", tmp / "ck", "--output", tmp / "out")
    expect(set(found) == {"0 0 evaluating"}, found)


def test_resume(tmp):
    run("train1", "--data", "synthetic", "--steps", 20, "--log", tmp / "whole")
    run("train1", "--data", "synthetic", "--steps", 12, "--save", tmp / "ck", "--save-every", 5)
    expect(sorted(os.listdir(tmp / "ck")) == ["step_10", "step_12", "step_5"], os.listdir(tmp / "ck"))
    for program, folder in ("train1", "ck"), ("train2", "ck/step_5"):
        status, _, err = run(program, "--data", "synthetic", "--steps", 20, "--load", tmp / folder, "--log", tmp / "rest")
        first = 12 if folder == "ck" else 5
        rest = losses(tmp / "rest")
        expect(status == 0 and len(rest) == 20 - first, err)
        expect(all(abs(a - b) < 1e-5 for a, b in zip(rest, losses(tmp / "whole")[first:])), program)
    status, out, _ = run("train1", "--data", "synthetic", "--steps", 12, "--load", tmp / "ck")
    expect(status == 0 and "nothing to train" in out, out)


def test_partial_evaluation(tmp):
    """21 samples in batches of 16, some labels ignored: as computed here from the logits of inference."""
    count = 21
    image = [math.sin(1.7 * i) for i in range(8 * count)]
    label = [-1 if i % 5 == 3 else i % 4 for i in range(count)]
    write_tensors(tmp / "data", image=("F32", [count, 8], image), label=("I32", [count], label))
    write_tensors(tmp / "no-labels", image=("F32", [count, 8], image))
    for data in "data", "no-labels":
        status, out, err = run("infer1", "--data", tmp / data, "--output", tmp / (data + ".out"))
        expect(status == 0 and "21 samples" in out, out, err)
    shape, logits = read_tensors(tmp / "data.out")["logits"]
    expect(shape == [count, 4] and read_tensors(tmp / "no-labels.out")["logits"] == (shape, logits))
    total, right, n = 0, 0, 0
    for i in range(count):
        row = logits[4 * i:4 * i + 4]
        if label[i] >= 0:
            total += math.log(sum(map(math.exp, row))) - row[label[i]]
            right += row.index(max(row)) == label[i]
            n += 1
    for program in "train1", "train2":
        status, _, err = run(program, "--data", "synthetic", "--steps", 0, "--eval", tmp / "data", "--log", tmp / "log")
        expect(status == 0, err)
        result = log(tmp / "log")[0]
        expect(abs(result["eval_loss"] - total / n) < 1e-5 and abs(result["eval_accuracy"] - right / n) < 1e-6, program, result,
               total / n, right / n)


def test_trace(tmp):
    status, _, err = run("train2", "--data", "synthetic", "--steps", 2, "--trace", tmp / "trace")
    events = json.load(open(tmp / "trace"))["traceEvents"]
    expect(status == 0 and {e["pid"] for e in events} == {0, 1, 2, 3}, err)
    expect({"compute", "pp", "dp"} == {e["args"]["name"] for e in events if e["name"] == "thread_name"})
    expect(any("ncclSend" in e["name"] and e["ph"] == "X" for e in events))


def test_not_finite(_):
    expect_failure(run("train1", "--data", "synthetic", "--steps", 9, FAULT="nan:1:3"), 7, "NaN at step 4")


# ---- launching

def test_launchers(tmp):
    run("train1", "--data", "synthetic", "--steps", 5, "--log", tmp / "hand")
    for launcher in LAUNCHERS:
        ranks = launch(["train1"] * 2, "--data", "synthetic", "--steps", 5, "--log", tmp / launcher, launcher=launcher,
                       MASTER_ADDR="")
        results = [finish(p) for p in ranks]
        expect([r[0] for r in results] == [0, 0], launcher, results)
        expect("memory: rank 1" in results[0][1] and "step 5/5" in results[1][1], results)
        expect(losses(tmp / launcher) == losses(tmp / "hand"), launcher)


def test_slurm_node_list(_):
    ranks = launch(["train1"] * 2, "--data", "synthetic", "--steps", 1, launcher="slurm", MASTER_ADDR="",
                   SLURM_STEP_NODELIST="127.0.0.[1-3,7],other")
    expect([finish(p)[0] for p in ranks] == [0, 0])


def test_ports_taken(_):
    """The launcher listens on MASTER_PORT, and something silent on the next."""
    port = free_port()
    with socket.socket() as launcher, socket.socket() as silent:
        launcher.bind(("127.0.0.1", port))
        silent.bind(("127.0.0.1", port + 1))
        silent.listen()
        ranks = launch(["train1"] * 2, "--data", "synthetic", "--steps", 2, MASTER_PORT=port)
        expect([finish(p)[0] for p in ranks] == [0, 0])


def test_two_jobs_side_by_side(_):
    """The first port is taken, so that job 0 listens on the second, where rank 1 of job 1 asks first."""
    port = free_port()

    def rank(job, k):
        more = {"RANK": k, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port + job}
        process = start("train1", "--data", "synthetic", "--steps", 2 + job, **more)
        time.sleep(0.3)
        return process

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        results = [finish(p) for p in [rank(0, 0), rank(1, 1), rank(0, 1), rank(1, 0)]]
    expect([r[0] for r in results] == [0, 0, 0, 0], results)
    expect("step 3/3" in results[1][1] and "step 2/2" in results[2][1], results)


def test_incomplete_environment(_):
    expect_failure(run("train1", "--data", "synthetic", RANK=0), 2, "RANK is set but WORLD_SIZE is not")
    expect_failure(run("train1", "--data", "synthetic", RANK=2, WORLD_SIZE=2), 2, "RANK=2 must be below WORLD_SIZE=2")
    expect_failure(run("train1", "--data", "synthetic", RANK="x", WORLD_SIZE=2), 2, 'RANK="x"')


def test_world_differs(_):
    expect_failure(run("train1", "--data", "synthetic", RANK=0, WORLD_SIZE=4), 5, "for 2 ranks", "torchrun says 4")


def test_build_differs(_):
    for programs in ["train1", "other1"], ["other1", "train1"]:
        for p in launch(programs, "--data", "synthetic"):
            expect_failure(finish(p), 5, "1234567890abcdef", "fedcba0987654321")


def test_rank_0_missing(_):
    expect_failure(run("train1", "--data", "synthetic", "--timeout", 1, RANK=1, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1",
                       MASTER_PORT=free_port()), 6, "rank 0 did not answer")


def test_rank_1_missing(_):
    expect_failure(run("train1", "--data", "synthetic", "--timeout", 1, RANK=0, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1",
                       MASTER_PORT=free_port()), 6, "1 of 1 ranks did not connect")


# ---- failing

def test_rank_fails(_):
    for culprit in range(4):
        for fault, status in ("fail", 3), ("die", 1):
            ranks = launch(["train2"] * 4, "--data", "synthetic", FAULT="%s:%d:5" % (fault, culprit))
            results = [finish(p) for p in ranks]
            expect([r[0] for r in results] == [status if k == culprit else 6 for k in range(4)], fault, culprit, results)
            for k in range(4):
                if k != culprit:
                    expect(results[k][2].count("\n") == 1 and "rank %d: rank %d failed" % (k, culprit) in results[k][2], results[k])


def test_rank_killed(_):
    ranks = launch(["train1"] * 2, "--data", "synthetic", "--steps", 100, FAULT="slow:0:1")
    time.sleep(1)
    ranks[1].kill()
    expect_failure(finish(ranks[0]), 6, "rank 1 failed")
    finish(ranks[1])


def test_failure_by_hand(_):
    expect_failure(run("train2", "--data", "synthetic", FAULT="fail:2:5"), 3, "rank 2: this rank was asked to fail")


def test_forked_ranks(tmp):
    """One process a rank, by hand: as on GPUs."""
    for program in "train2", "fork2":
        status, out, err = run(program, "--data", "synthetic", "--steps", 5, "--log", tmp / program)
        expect(status == 0 and "memory: rank 3" in out and not err, out, err)
    expect(losses(tmp / "fork2") == losses(tmp / "train2"))
    for culprit in range(4):
        for fault, status in ("fail", 3), ("die", 1), ("crash", 6):
            result = run("fork2", "--data", "synthetic", FAULT="%s:%d:5" % (fault, culprit))
            expect_failure(result, status, "rank %d failed with status %d" % (culprit, status))
            expect(result[2].count("\n") == {"fail": 2, "die": 1, "crash": 2}[fault], result[2])
    expect_failure(run("fork2", "--data", "synthetic", "--timeout", 2, FAULT="hang:0:1"), 6, "nothing moved for 2 seconds")


def test_hang(_):
    """Rank 0 stops inside an action; rank 1 waits for its activations."""
    ranks = launch(["train1"] * 2, "--data", "synthetic", "--timeout", 2, FAULT="hang:0:1")
    results = [finish(p) for p in ranks]
    expect([r[0] for r in results] == [6, 6], results)
    text = results[0][2] + results[1][2]
    expect("enqueueing prologue" in text or "1RECV_F0 on pp" in text, text)


# ---- stopping

def interrupted(ranks, target, tmp, signal_number):
    while not (tmp / "log").exists() or len(open(tmp / "log").readlines()) < 2:
        time.sleep(0.05)
    target.send_signal(signal_number)
    results = [finish(p) for p in ranks]
    expect([r[0] for r in results] == [0] * len(ranks), results)
    done = log(tmp / "log")[-1]["step"]
    expect(os.listdir(tmp / "ck") == ["step_%d" % done], os.listdir(tmp / "ck"), done)
    expect(any("interrupted after step %d" % done in r[1] for r in results), results)


def test_interrupt_by_hand(tmp):
    for program in "train2", "fork2":
        for number in signal.SIGINT, signal.SIGTERM:
            folder = tmp / (program + str(number))
            folder.mkdir()
            p = start(program, "--data", "synthetic", "--steps", 100000, "--save", folder / "ck", "--log", folder / "log")
            interrupted([p], p, folder, number)


def test_interrupt_one_rank(tmp):
    """Only one process gets the signal; all stop at the same step. Short steps vote early, long ones late."""
    for name, fault in ("short", "none"), ("long", "slow:1:1"):
        (tmp / name).mkdir()
        ranks = launch(["train1"] * 2, "--data", "synthetic", "--steps", 100000, "--save", tmp / name / "ck", "--log",
                       tmp / name / "log", FAULT=fault)
        interrupted(ranks, ranks[1], tmp / name, signal.SIGTERM)


def main():
    subprocess.run([here / "build.sh", bin], check=True)
    failed = 0
    for name, test in [(n[5:], f) for n, f in globals().items() if n.startswith("test_")]:
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        tmp = pathlib.Path(tempfile.mkdtemp(prefix="mp-runtime-"))
        try:
            test(tmp)
            print("ok", name, flush=True)
        except Exception as error:
            failed += 1
            print("FAIL %s: %s: %s" % (name, type(error).__name__, error), flush=True)
        shutil.rmtree(tmp)
    sys.exit(failed > 0)


main()
