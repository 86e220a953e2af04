"""Parity of networks with convolutions and batch norm, whose state is more than weights: running statistics and counters.

Training is compared with a loop over the same micro-batches, in the order of samples, one of each replica apart, and
with PyTorch's own pipeline; inference with model.eval(). Checkpoints are exchanged both ways under torchvision's names.
"""
import numpy

from files import exchange, import_torch, make_data
from lib import safetensors, specs
from lib.harness import WORK, Case, check, compare_numbers, compare_tensors

STEPS, BATCH, BATCHES, TAIL = 20, 16, 4, 5
REAL = {"f64": "f8", "f32": "f4"}
ONE = (1, 1, 1)


class Network:
    """A spec with its options, the module that it is, and what its optimizer says; shapes as in files.make_data."""

    def __init__(self, spec, make, shapes, options, momentum=0.0, decay=0.0, linear=False):
        self.spec, self.make, self.shapes, self.rate = f"{spec}.lua", make, shapes, options["lr"]
        self.momentum, self.decay, self.linear = momentum, decay, linear
        if momentum:
            options = {**options, "momentum": momentum, "weight_decay": decay, "schedule": "linear" if linear else "constant"}
        self.options = [f"{name}={value}" for name, value in options.items()]


def convnet(**optimizer):
    def make(networks):
        return networks.ConvNet(3, 6)

    return Network("specs/convnet", make, {"image": [3, 10, 10], "label": 10},
                   {"channels": 3, "image": 10, "width": 6, "lr": 0.3}, **optimizer)


def resnet(depth, image, width, classes=5, lr=0.02, **options):
    def make(networks):
        return networks.ResNet(depth, 3, classes, width, image >= 64)

    return Network("specs/resnet", make, {"image": [3, image, image], "label": classes},
                   {"depth": depth, "image": image, "width": width, "classes": classes, "lr": lr, **options},
                   momentum=0.9, decay=1e-3)


def norms(**options):
    def make(networks):
        return networks.Norms()

    return Network("tests/parity/norms", make, {"x": [5, 4, 3], "y": [5, 4, 3]}, {"lr": 0.2, **options}, 0.9, 1e-3)


NETWORKS = {
    "convnet": convnet(),
    "convnet_momentum": convnet(momentum=0.9, decay=0.01, linear=True),
    "resnet18": resnet(18, 16, 4),
    "resnet18_stem": resnet(18, 64, 4),
    "resnet50": resnet(50, 16, 4),
    # In f32 now and then a ReLU's input has another sign, which changes that step's gradient by percents.
    "resnet18_slow": resnet(18, 16, 4, lr=1e-5),
    "resnet50_slow": resnet(50, 16, 4, lr=1e-5),
    "resnet18_sync": resnet(18, 16, 4, sync="true"),
    "resnet18_layers": resnet(18, 16, 4, cuts="layers"),
    "norms": norms(),
    "norms_sync": norms(sync="true"),
}


class Reference:
    """The module with its own weights, the data, and the program's words for both."""

    def __init__(self, name, dtype):
        self.torch = import_torch()
        import networks
        self.network, self.type = NETWORKS[name], {"f64": self.torch.float64, "f32": self.torch.float32}[dtype]
        self.model = networks.randomise(self.network.make(networks).to(self.type))
        self.data_path, data = exchange(name, lambda: make_data(self.network.shapes, BATCHES * BATCH + TAIL, BATCH // 4))
        self.data = {n: self.torch.from_numpy(a) for n, a in data.items()}
        weights_path, _ = exchange(f"{name}-weights-{dtype}", self.state)
        self.words = ["--data", self.data_path, "--load", weights_path]

    def program(self, mesh, microbatches, dtype, *more):
        spec = specs.Spec(self.network.spec, self.network.spec, 64, True, None, None, *self.network.options)
        return specs.program(spec, mesh, microbatches, dtype, *more, batch=BATCH)

    def state(self):
        return {n: t.detach().numpy().copy() for n, t in self.model.state_dict().items()}

    def samples(self, begin, end):
        """(inputs, labels) with real inputs in the module's type."""
        return [t[begin:end].long() if t.dtype == self.torch.int32 else t[begin:end].to(self.type) for t in self.data.values()]

    def optimizer(self):
        return self.torch.optim.SGD(self.model.parameters(), lr=self.network.rate, momentum=self.network.momentum,
                                    weight_decay=self.network.decay)

    def train(self, step_losses):
        """step_losses(inputs, …) gives the losses of a batch, which are added, and makes the gradients."""
        losses, optimizer = [], self.optimizer()
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = self.network.rate * ((STEPS - step) / STEPS if self.network.linear else 1)
            optimizer.zero_grad()
            begin = step % BATCHES * BATCH
            losses.append(step_losses(*self.samples(begin, begin + BATCH)))
            optimizer.step()
        return losses

    def train_groups(self, groups):
        """Batch norm sees a group of samples at a time; the loss is that of the whole batch."""
        def step(x, y):
            total = 0
            for part_x, part_y in zip(x.chunk(groups), y.chunk(groups)):
                loss = self.loss(part_x, part_y, y)
                loss.backward()
                total += loss.item()
            return total
        return self.train(step)

    def loss(self, x, y, whole):
        if "label" in self.data:
            return self.cross_entropy(self.model(x), y) / (whole >= 0).sum()
        return self.model.loss(x, y) * len(y) / len(whole)

    def cross_entropy(self, logits, label):
        return self.torch.nn.functional.cross_entropy(logits, label, ignore_index=-1, reduction="sum")

    def outputs(self):
        self.model.eval()
        with self.torch.no_grad():
            outputs = self.model(self.samples(0, None)[0])
        outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
        return {n: y.numpy() for n, y in outputs.items()}

    def evaluation(self):
        """(loss, accuracy) over the valid labels of the whole file."""
        logits, label = self.torch.from_numpy(self.outputs()["logits"]), self.samples(0, None)[1]
        valid = (label >= 0).sum().item()
        right = ((logits.argmax(1) == label) & (label >= 0)).sum().item()
        return self.cross_entropy(logits, label).item() / valid, right / valid


def compare_training(reference, run, losses, dtype):
    print("losses", losses)
    check(sum(losses[-BATCHES:]) < sum(losses[:BATCHES]), f"PyTorch's losses do not fall: {losses}")
    compare_numbers("loss of step", run.losses, losses, {"f64": 1e-9, "f32": 1e-5}[dtype])
    if dtype == "f32":
        return
    compare_tensors(run.weights, reference.state(), 1e-9)
    if "label" in reference.data:
        evaluated = [run.evaluations[-1][key] for key in ("eval_loss", "eval_accuracy")]
        compare_numbers("evaluation", evaluated, reference.evaluation(), 1e-9)


def training(name, mesh, microbatches, dtype):
    """The default statistics are those of a replica's micro-batch, sync ones of that of all replicas."""
    reference = Reference(name, dtype)
    program = reference.program(mesh, microbatches, dtype)
    evaluate = ["--eval", reference.data_path] if "label" in reference.data else []
    run = program.train("parity", STEPS, *reference.words, *evaluate, "--order", "file")
    groups = microbatches if "sync" in name else microbatches * mesh[0]
    compare_training(reference, run, reference.train_groups(groups), dtype)
    counters = [int(value) for n, value in run.weights.items() if n.endswith("num_batches_tracked")]
    check(counters and set(counters) == {7 + STEPS * groups}, f"num_batches_tracked {counters} after {STEPS} steps of {groups}")


def pipe(name, dtype):
    """torch.distributed.pipeline.sync.Pipe with a stage for each of the network's parts."""
    reference = Reference(name, dtype)
    from torch.distributed import rpc
    from torch.distributed.pipeline.sync import Pipe
    meeting = WORK / "data" / f"rpc-{name}-{dtype}"
    meeting.unlink(missing_ok=True)
    rpc.init_rpc("parity", rank=0, world_size=1,
                 rpc_backend_options=rpc.TensorPipeRpcBackendOptions(init_method=f"file://{meeting}"))
    model = Pipe(reference.torch.nn.Sequential(*reference.model.parts()), chunks=4, checkpoint="never")
    check(len(model.partitions) == 3, f"the pipeline has {len(model.partitions)} partitions")

    def step(x, label):
        loss = reference.cross_entropy(model(x).local_value(), label) / (label >= 0).sum()
        loss.backward()
        return loss.item()

    run = reference.program((1, 1, 3), 4, dtype).train(
        "pipe", STEPS, *reference.words, "--eval", reference.data_path, "--order", "file")
    compare_training(reference, run, reference.train(step), dtype)
    check(int(run.weights["bn1.num_batches_tracked"]) == 7 + 80, "not 80 updates of the running statistics")
    rpc.shutdown()


def inference(name, mesh, microbatches, dtype):
    """The running statistics that a file holds normalise; the last batch is not full."""
    reference = Reference(name, dtype)
    program = reference.program(mesh, microbatches, dtype, "--mode", "infer")
    output = program.folder / "parity.safetensors"
    program.run(*reference.words, "--output", output)
    compare_tensors(safetensors.read(output), reference.outputs(), {"f64": 1e-9, "f32": 2e-5}[dtype])


# ---------------------------------------------------------------------------------------------------------
# Checkpoints of torchvision's ResNet-18

def resnet18_state(channels, classes):
    """{name: shape} of the state dict of torchvision's resnet18: 122 tensors."""
    state = {"conv1.weight": [64, channels, 7, 7]}

    def norm(name, width):
        state.update({f"{name}.{each}": [width] for each in ("weight", "bias", "running_mean", "running_var")})
        state[f"{name}.num_batches_tracked"] = []

    norm("bn1", 64)
    before = 64
    for layer, width in enumerate((64, 128, 256, 512), 1):
        for i in range(2):
            block = f"layer{layer}.{i}"
            state[f"{block}.conv1.weight"] = [width, before, 3, 3]
            state[f"{block}.conv2.weight"] = [width, width, 3, 3]
            norm(f"{block}.bn1", width)
            norm(f"{block}.bn2", width)
            if before != width:
                state[f"{block}.downsample.0.weight"] = [width, before, 1, 1]
                norm(f"{block}.downsample.1", width)
            before = width
    state.update({"fc.weight": [classes, 512], "fc.bias": [classes]})
    assert len(state) == 122
    return state


def check_names(tensors, expected, dtype):
    check(sorted(tensors) == sorted(expected), f"not torchvision's names: {sorted(set(tensors) ^ set(expected))}")
    for name, tensor in tensors.items():
        kind = "i8" if name.endswith("num_batches_tracked") else REAL[dtype]
        check(list(tensor.shape) == expected[name] and tensor.dtype == numpy.dtype(kind),
              f"{name} is {tensor.dtype} {list(tensor.shape)}, not {kind} {expected[name]}")


def checkpoint(dtype):
    """PyTorch's state into the program, and the program's, after a step, into PyTorch."""
    NETWORKS["resnet18_torchvision"] = resnet(18, 64, 64, classes=1000)
    reference = Reference("resnet18_torchvision", dtype)
    expected = resnet18_state(3, 1000)
    check_names(reference.state(), expected, dtype)
    infer = reference.program(ONE, 1, dtype, "--mode", "infer")
    tolerance = {"f64": 1e-9, "f32": 2e-5}[dtype]
    output = infer.folder / "output.safetensors"
    infer.run(*reference.words, "--output", output)
    compare_tensors(safetensors.read(output), reference.outputs(), tolerance)
    run = reference.program((1, 1, 2), 2, dtype).train("checkpoint", 1, *reference.words, "--order", "file")
    check_names(run.weights, expected, dtype)
    moved = {n: reference.torch.from_numpy(a) for n, a in run.weights.items()}
    check(all((moved[n] != t).any() for n, t in reference.model.state_dict().items()), "a tensor did not change in a step")
    reference.model.load_state_dict(moved, strict=True)
    infer.run("--data", reference.data_path, "--load", run.checkpoint, "--output", output)
    compare_tensors(safetensors.read(output), reference.outputs(), tolerance)


def fresh():
    """What a program starts with: PyTorch's defaults, and torchvision's for the ResNet."""
    torch = import_torch()
    import networks
    for name in ("convnet", "resnet18", "resnet50"):
        network = NETWORKS[name]
        expected = network.make(networks).state_dict()
        spec = specs.Spec(network.spec, network.spec, 64, True, None, None, *network.options)
        program = specs.program(spec, ONE, 4, "f32", batch=BATCH)
        program.run("--data", "synthetic", "--steps", 0, "--save", program.folder / "fresh")
        start = safetensors.read(program.folder / "fresh/step_0/model.safetensors")
        check(sorted(start) == sorted(expected), f"{name}: other tensors: {sorted(set(start) ^ set(expected))}")
        for n, tensor in expected.items():
            actual = torch.from_numpy(start[n])
            check(actual.shape == tensor.shape and actual.dtype == tensor.dtype, f"{n} is {actual.dtype} {actual.shape}")
            check_distribution(name, n, actual, tensor)


def check_distribution(network, name, actual, pytorch):
    """Batch norm's tensors are equal; others spread as they should, within what chance does."""
    if "bn" in name or "downsample.1" in name:
        check(actual.equal(pytorch), f"{name} starts as {actual}")
    elif pytorch.dim() == 4 and network.startswith("resnet"):
        deviation = (2 / (actual[:, 0].numel())) ** 0.5         # kaiming_normal_(mode="fan_out", nonlinearity="relu")
        check(abs(actual.std().item() / deviation - 1) < 4 / (2 * actual.numel()) ** 0.5, f"{name}: deviation {actual.std()}")
    elif pytorch.dim() > 1:
        bound = pytorch[0].numel() ** -0.5
        least = bound * (1 - 16 / actual.numel())
        check(least <= actual.abs().max().item() <= bound, f"{name}: up to {actual.abs().max()}, not {bound}")


def cases(long):
    """Names say the mesh when it is not one device, and the micro-batches."""
    rows = [(training, "convnet", ONE, 4, "f64"), (training, "convnet", ONE, 4, "f32"),
            (training, "convnet_momentum", ONE, 1, "f64"), (training, "convnet_momentum", (2, 2, 2), 2, "f64"),
            (training, "norms", ONE, 2, "f64"), (training, "norms", (2, 2, 1), 4, "f64"),
            (training, "norms_sync", (2, 2, 1), 2, "f64"),
            (training, "resnet18", ONE, 4, "f64"), (training, "resnet18_slow", ONE, 4, "f32"),
            (training, "resnet18_stem", ONE, 4, "f64"), (training, "resnet18_layers", (1, 2, 4), 4, "f64"),
            (training, "resnet18_sync", (2, 1, 2), 2, "f64"),
            (training, "resnet50", ONE, 2, "f64"), (training, "resnet50_slow", ONE, 2, "f32"),
            (inference, "convnet", ONE, 1, "f64"), (inference, "convnet", (2, 2, 2), 2, "f64"),
            (inference, "norms", (1, 3, 1), 1, "f64"), (inference, "resnet18", ONE, 2, "f64"),
            (inference, "resnet18_stem", (1, 2, 2), 2, "f64"), (inference, "resnet50", ONE, 1, "f64"),
            (inference, "resnet50", ONE, 1, "f32")]
    if long:
        rows += [(training, "convnet_momentum", ONE, 4, "f32"), (training, "convnet", (1, 1, 3), 4, "f64"),
                 (training, "convnet", (4, 1, 1), 2, "f64"), (training, "resnet18", (2, 2, 2), 2, "f64"),
                 (training, "resnet50", (1, 2, 4), 2, "f64"),
                 (training, "resnet18_sync", (4, 2, 1), 4, "f64"), (training, "norms_sync", (4, 1, 1), 1, "f64")]
    found = []
    for run, name, mesh, microbatches, dtype in rows:
        parts = [run.__name__, name, *([specs.mesh_text(mesh)] if mesh != ONE else []), f"m{microbatches}", dtype]
        found.append(Case("-".join(parts), run, name, mesh, microbatches, dtype, heavy="resnet" in name))
    found += [Case(f"pipe-{name}-{dtype}", pipe, name, dtype) for name, dtype in
              (("convnet", "f64"), ("convnet", "f32"), ("convnet_momentum", "f64"))]
    found += [Case(f"checkpoint-resnet18-{dtype}", checkpoint, dtype, heavy=True) for dtype in (REAL if long else ("f32",))]
    return found + [Case("fresh", fresh)]
