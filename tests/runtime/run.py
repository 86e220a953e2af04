#!/usr/bin/env python3
"""Runs the hand-written programs of tiny.cu and text.cu on the host and checks what users of emitted programs rely on: exit statuses,
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
    return subprocess.Popen([bin / program, *map(str, arguments)], env=environment(**more), text=True, errors="replace",
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
    expect(status == 0 and "--eval-every N" in out and "--output" not in out and "--tune FILE" in out, out)


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
    expect_failure(run("train1", *data, "--output", "f"), 2, "inference", "--mode train")
    expect_failure(run("infer1", *data, "--save", "f"), 2, "training", "--mode infer")
    expect_failure(run("infer1", *data), 2, "--output is missing")
    expect_failure(run("train1"), 2, "--data is missing")
    expect_failure(run("train1", *data, "--eval-every", "2"), 2, "needs --eval")
    expect_failure(run("train1", *data, "--save-every", "2"), 2, "needs --save")
    expect_failure(run("train1", *data, "--allow-missing"), 2, "--allow-missing needs --load")
    expect_failure(run("train1", *data, "--allow-unused"), 2, "--allow-unused needs --load")
    expect_failure(run("train1", *data, "--allow-mismatched"), 2, "--allow-mismatched needs --load")
    expect_failure(run("train1", *data, "--max-shard-size", "5GB"), 2, "needs --save")
    for size in ("0", "-1", "5TB", "GB", "1.5GB"):
        expect_failure(run("train1", *data, "--save", "f", "--max-shard-size", size), 2, "500MB or 5GB", size)


def test_tune(tmp):
    """The host tunes nothing, and reads the file of a GPU as strictly as that does."""
    file, row = tmp / "tune", "NT 64 32 16 bf16 f32 BIAS_GELU_AUX 16  0.01 6.5  2 8 0.02  1024 " + "0a" * 64
    head = "mpgen tune 1\nlibrary cuBLASLt 130100\ndevice A GPU\n# comment\n"
    words = ["train1", "--data", "synthetic", "--steps", 1, "--tune", file]
    status, out, err = run(*words)
    expect(status == 0 and out.count("nothing to tune") == 1 and not file.exists(), status, out, err)
    file.write_text(head + row + "\n\n" + row.replace("NT", "NN"))
    expect(run(*words)[0] == 0, "a right file was refused")
    for text, line, what in (("", 1, "ends before"), ("mpgen tune 2", 1, "begins with"), (head.replace("library", "lib"), 2, "the library, not \"lib cu"),
                             (head.replace("device", "gpu"), 3, "the device"), (head + row.replace("NT", "TT"), 5, 'not "TT"'),
                             (head + row.replace("64 32", "64 x"), 5, "n is a whole number"), (head + row.replace(" f32", " f16"), 5, "type of the result"),
                             (head + row.replace(" 16  0.01", " 16 beside  0.01"), 5, "the time is a number"),
                             (head + row.replace("GELU", "SELU"), 5, "the epilogue"), (head + row.replace(" 2 8", " 9 8"), 5, "candidates"),
                             (head + row[:-1], 5, "128 digits"), (head + row + " 1", 5, "ends with its algorithm"),
                             (head + row[:40], 5, 'not ""'), (head + row + "\n" + row, 6, "one line")):
        file.write_text(text)
        expect_failure(run(*words), 1, f"{file}:{line}: ", what)


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


def test_ahead(tmp):
    """A step is enqueued while the one before it runs, unless an evaluation or a checkpoint comes in between; and it computes the same."""
    def enqueued(*more):
        status, out, err = run("train1", "--data", "synthetic", "--steps", 24, "--eval", "synthetic", "--save", tmp / "ck", "--save-every", 6, "--log", tmp / "log",
                               *more, FAULT="ahead:0:0", MP_HOST_MODE="late")
        expect(status == 0, err)
        return [(int(step), int(done)) for step, done in re.findall(r"^step (\d+) behind (\d+)$", out, re.M)], losses(tmp / "log")

    found, numbers = enqueued("--eval-every", 8)
    ahead = {step for step, done in found if step - done == 2}
    expect([step for step, _ in found] == list(range(1, 25)) and all(step - done in (1, 2) for step, done in found), found)
    expect(len(ahead) > 10 and not ahead & {1, 7, 9, 13, 17, 19}, found)
    alone, same = enqueued("--eval-every", 1)
    expect(all(step - done == 1 for step, done in alone) and same == numbers, (alone, same, numbers))


def test_random_key(tmp):
    """Seed and step, on every rank, also when a run goes on; evaluation and inference have one too."""
    def keys(program, rank, *arguments):
        status, out, err = run(program, "--data", "synthetic", "--seed", 2 ** 32 * 5 + 2 ** 31, *arguments, FAULT=f"key:{rank}:0")
        expect(status == 0, err)
        return re.findall(r"^key -2147483648 5 (\d+ 0.*)$", out, re.M)

    for rank in 0, 1:
        found = keys("train1", rank, "--steps", 3, "--eval", "synthetic", "--save", tmp / "ck")
        expect(found[:3] == ["0 0", "1 0", "2 0"] and set(found[3:]) == {"3 0 evaluating"}, found)
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


# ---- token data

def write_text(path, count=400):
    path.write_text("".join("abcdefgh"[(i * i // 3 + i) % 8] for i in range(count)))
    return path


def text_model(folder):
    """Logits of each position of a window, computed here."""
    tensors = read_tensors(folder / "model.safetensors")
    rows = {name: [t[1][i:i + 16] for i in range(0, len(t[1]), 16)] for name, t in tensors.items()}

    def logits(window):
        h = [[a + b for a, b in zip(rows["token.weight"][x], rows["position.weight"][i])] for i, x in enumerate(window)]
        return [[sum(a * b for a, b in zip(row, out)) for out in rows["head.weight"]] for row in h]
    return logits


def text_loss(logits, ids):
    """Of every token but the first, in windows of 8."""
    total = 0
    for start in range(0, len(ids) - 1, 8):
        labels = ids[start + 1:start + 9]
        for row, label in zip(logits(ids[start:start + len(labels)]), labels):
            total += math.log(sum(map(math.exp, row))) - row[label]
    return total / (len(ids) - 1)


def trained(tmp, steps=60):
    status, out, err = run("text1", "--data", write_text(tmp / "text"), "--steps", steps, "--save", tmp / "ck")
    expect(status == 0, err)
    return tmp / "ck" / ("step_%d" % steps)


def score(out):
    found = re.search(r"(\d+) tokens  loss (\S+)  perplexity (\S+)$", out, re.M)
    expect(found and abs(math.exp(float(found[2])) - float(found[3])) < 1e-4 * float(found[3]), out)
    return int(found[1]), float(found[2])


def test_text_learns(tmp):
    """The same tokens on every mesh, in every order."""
    for order in "random", "shuffled", "file":
        for program in "text1", "text2":
            status, out, err = run(program, "--data", write_text(tmp / "text"), "--steps", 60, "--order", order, "--log",
                                   tmp / program, "--eval", tmp / "text")
            expect(status == 0 and "tokens/s" in out, out, err)
        one, two = losses(tmp / "text1"), losses(tmp / "text2")
        expect(len(one) == 60 and all(abs(a - b) < 1e-5 for a, b in zip(one, two)), order, one, two)
        expect(one[-1] < 0.5 * one[0], one)
        for line in log(tmp / "text1")[:-1]:
            expect(abs(line["tokens_per_s"] * line["step_ms"] / 1000 / 32 - 1) < 1e-4, line)
        expect("eval_loss" in log(tmp / "text1")[-1])


def test_text_resumes(tmp):
    text = write_text(tmp / "text")
    run("text1", "--data", text, "--seed", 5, "--steps", 20, "--log", tmp / "whole")
    run("text1", "--data", text, "--seed", 5, "--steps", 12, "--save", tmp / "ck")
    for seed, equal in (5, True), (6, False):
        status, _, err = run("text2", "--data", text, "--seed", seed, "--steps", 20, "--load", tmp / "ck", "--log", tmp / "rest")
        rest = losses(tmp / "rest")
        expect(status == 0 and len(rest) == 8, err)
        expect(all(abs(a - b) < 1e-5 for a, b in zip(rest, losses(tmp / "whole")[12:])) == equal, seed, rest)
        expect(("--seed 5" in err) != equal, err)


def test_text_synthetic(tmp):
    status, _, err = run("text_ids", "--data", "synthetic", "--steps", 400, "--log", tmp / "log", "--eval", "synthetic")
    lines = log(tmp / "log")
    expect(status == 0 and lines[-1]["eval_loss"] < 0.6 * lines[0]["loss"], lines[0], lines[-1], err)


def test_text_split(tmp):
    """The part behind the split: as the evaluation, as a score, and as computed here."""
    text, folder = write_text(tmp / "text"), trained(tmp)
    ids = list(text.read_bytes())
    want = text_loss(text_model(folder), ids[280:])
    for arguments in (["text1", "--steps", 0, "--log", tmp / "log"], ["text2", "--steps", 0, "--log", tmp / "log"]):
        status, _, err = run(*arguments, "--data", text, "--split", 0.7, "--load", folder)
        expect(status == 0 and abs(log(tmp / "log")[0]["eval_loss"] - want) < 1e-4, err, log(tmp / "log"), want)
    for program in "write1", "write2":
        status, out, err = run(program, "--data", text, "--split", 0.7, "--load", folder)
        expect(status == 0, err)
        tokens, loss = score(out)
        expect(tokens == 119 and abs(loss - want) < 1e-4, out, want)
        tokens, loss = score(run(program, "--data", text, "--load", folder)[1])
        expect(tokens == 399 and abs(loss - text_loss(text_model(folder), ids)) < 1e-4, loss)


def test_text_eval_batches(tmp):
    """The same few batches each time, whatever the seed."""
    text, folder, found = write_text(tmp / "text"), trained(tmp), set()
    for seed in 0, 9:
        for batches in 2, 1000:
            run("text1", "--data", text, "--split", 0.5, "--load", folder, "--steps", 0, "--seed", seed, "--eval-batches",
                batches, "--log", tmp / "log")
            found.add((batches, log(tmp / "log")[0]["eval_loss"]))
    expect(len(found) == 2 and len({loss for _, loss in found}) == 2, found)


def test_text_output(tmp):
    """Logits of a file, on every mesh."""
    folder, text = trained(tmp), write_text(tmp / "short", 60)
    for program in "write1", "write2":
        status, out, err = run(program, "--data", text, "--load", folder, "--output", tmp / program)
        expect(status == 0 and "8 samples" in out, out, err)
        shape, values = read_tensors(tmp / program)["logits"]
        want = text_model(folder)(list(text.read_bytes())[40:48]) # sample 5
        expect(shape == [8, 8, 256], shape)
        expect(all(abs(a - b) < 1e-4 for a, b in zip(values[5 * 8 * 256:6 * 8 * 256], sum(want, []))), program)


def text_of(out):
    """What follows the lines about memory."""
    return re.sub(r"^memory: .*\n", "", out, flags=re.M)


def test_generation_greedy(tmp):
    """The likeliest token again and again, the window moving on, as computed here."""
    folder = trained(tmp)
    logits = text_model(folder)
    for prompt in "a", "abc", "hgfedcbabcdefgh":
        ids = list(prompt.encode())
        while len(ids) < len(prompt) + 20:
            row = logits(ids[-8:])[-1]
            ids.append(row.index(max(row)))
        for program in "write1", "write2":
            for more in ["--temperature", 0], ["--top-k", 1], ["--temperature", 0, "--samples", 1]:
                status, out, err = run(program, "--load", folder, "--prompt", prompt, "--tokens", 20, *more)
                expect(status == 0 and text_of(out) == bytes(ids).decode() + "\n", out, ids, err)


def test_generation_samples(tmp):
    """Any mesh draws the same; samples and seeds differ; --top-k and --temperature keep to the likely."""
    folder = trained(tmp)
    base = ["--load", folder, "--prompt", "abc", "--tokens", 40, "--samples", 3]
    outs = [text_of(run(program, *base)[1]) for program in ("write1", "write2", "write1")]
    expect(outs[0] == outs[1] == outs[2] != text_of(run("write1", *base, "--seed", 1)[1]), outs)
    samples = re.split(r"--- sample . of 3 ---\n", outs[0])[1:]
    expect(len(set(samples)) == 3 and all(x.startswith("abc") and len(x) == 44 for x in samples), outs[0])
    one = text_of(run("write2", *base[:-1], 1)[1])
    expect(one == samples[0], one, samples)
    logits, wrong = text_model(folder), 0
    for text in re.split(r"--- sample . of 3 ---\n", text_of(run("write2", *base, "--top-k", 2)[1]))[1:]:
        for i in range(3, 43):
            row = logits(list(text[max(0, i - 8):i].encode()))[-1]
            wrong += row[ord(text[i])] < sorted(row)[-2] - 1e-4
    expect(wrong == 0, wrong)
    cold, = {text_of(run("write1", *base[:-1], 1, "--temperature", x)[1]) for x in ("0", "0.001")}


def test_generation_frequencies(tmp):
    """Tokens come as often as their probabilities say: 256 positions of one prompt."""
    folder, seen = trained(tmp, 12), {}
    for seed in range(40):
        out = text_of(run("write1", "--load", folder, "--prompt", "a", "--tokens", 1, "--samples", 4, "--seed", seed)[1])
        for text in re.findall(r"^a(.)$", out, re.M):
            seen[text] = seen.get(text, 0) + 1
    row = text_model(folder)([97])[-1]
    total = sum(map(math.exp, row))
    chance = {c: math.exp(row[ord(c)]) / total for c in "abcdefgh"}
    for c in "abcdefgh":
        spread = math.sqrt(160 * chance[c] * (1 - chance[c]))
        expect(abs(seen.get(c, 0) - 160 * chance[c]) < 4 * spread + 1, c, seen, chance)


def test_generation_prompts(tmp):
    """Files and ids."""
    for prompt in b"a", b"ab\ncd":
        (tmp / "prompt").write_bytes(prompt)
        status, out, err = run("write1", "--prompt", tmp / "prompt", "--tokens", 1)
        expect(status == 0 and text_of(out).startswith(prompt.decode()), out, err)
    (tmp / "ids.bin").write_bytes(struct.pack("<3H", 5, 999, 0))
    for prompt in tmp / "ids.bin", "5 999 0", "[5, 999, 0]":
        status, out, err = run("write_ids", "--prompt", prompt, "--tokens", 3)
        expect(status == 0 and re.match(r"5 999 0( \d+){3} $", text_of(out).rstrip("\n")), out, err)
    expect_failure(run("write_ids", "--prompt", "5, 1000"), 1, "id 1000 is outside", "1000")
    expect_failure(run("write_ids", "--prompt", "ROMEO:"), 1, 'no file ROMEO:, and "ROMEO:" is no id', '"15496, 995"')
    expect_failure(run("write_ids", "--prompt", " , "), 1, "holds no tokens")
    expect_failure(run("write_ids", "--prompt", tmp / "prompt"), 1, "prompt would be read as bytes")


def test_text_mistakes(tmp):
    text = write_text(tmp / "text")
    (tmp / "ids.bin").write_bytes(struct.pack("<20H", *range(990, 1010)))
    expect_failure(run("text_ids", "--data", tmp / "ids.bin"), 1, "ids.bin: token 10 is 1000", "vocabulary is 1000")
    expect_failure(run("text_ids", "--data", text), 1, "text would be read as bytes")
    expect_failure(run("text1", "--data", text, "--split", 1), 2, "--split needs a number", "1")
    expect_failure(run("text1", "--data", text, "--split", 0.01), 1, "text holds 4 tokens before the split")
    expect_failure(run("text1", "--data", text, "--split", 0.5, "--eval", text), 2, "--split keeps", "--eval")
    expect_failure(run("text1", "--data", text, "--eval-batches", 2), 2, "--eval-batches needs --eval")
    expect_failure(run("text1", "--data", text, "--order", "sorted"), 2, "random, shuffled or file")
    expect_failure(run("text1", "--data", text, "--prompt", "a"), 2, "--prompt is for inference programs")
    expect_failure(run("train1", "--data", "synthetic", "--split", 0.5), 2, "whose spec declares mp.tokens")
    expect_failure(run("infer1", "--prompt", "a"), 2, "whose spec declares mp.tokens")
    expect_failure(run("write1"), 2, "--data is missing", "--prompt")
    expect_failure(run("write1", "--data", text, "--prompt", "a"), 2, "does not go with --data")
    expect_failure(run("write1", "--data", text, "--tokens", 2), 2, "--tokens needs --prompt")
    expect_failure(run("write1", "--prompt", "a", "--samples", 5), 2, "computes 4 at once", "--batch 5")
    expect_failure(run("write1", "--prompt", "a", "--temperature", -1), 2, "--temperature needs")


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
