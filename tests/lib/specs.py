"""The specs that plans of several meshes are tried on, and what is needed to run them."""
from lib.harness import FASHION, ROOT, Program

BATCH = 64


class Spec:
    """blocks: the most stages; tp: whether it has annotated layers; data: of training; inputs: of inference.

    ids: inputs are whole numbers below it. words: options of mpgen. groups: of heads, which tp must divide. statistics: None;
    "replica" where batch norm is that of each replica's micro-batch, so that dp replicas with m micro-batches compute what one
    device does with dp * m; or "all". plain: what one device is
    run with instead, to compare with. steep: rounding errors of f32 grow while it trains."""

    def __init__(self, name, path, blocks, tp, data, inputs, *define, statistics=None, steep=False, groups=None, ids=None, words=()):
        self.name, self.path, self.blocks, self.tp, self.data, self.inputs = name, ROOT / path, blocks, tp, data, inputs
        self.statistics, self.steep, self.groups, self.ids, self.words = statistics, steep, groups, ids, words
        self.plain = self
        self.define = [word for pair in define for word in ("-D", pair)]

    def __str__(self):
        return self.name

    def takes(self, mesh):
        """Whether the mesh, a (dp, tp, pp), works for it: more is refused."""
        divides = self.tp and (not self.groups or self.groups % mesh[1] == 0)
        return mesh[2] <= self.blocks and (divides or mesh[1] == 1)

    def trains(self, mesh, dtype):
        """Whether losses on the mesh can be compared with one device's."""
        return self.takes(mesh) and (not self.steep or dtype == "f64" or mesh[:2] == (1, 1))

    def same_microbatches(self, mesh, microbatches):
        """The micro-batches with which one device computes the same."""
        return microbatches * mesh[0] if self.statistics == "replica" else microbatches


IMAGE = {"image": [784]}
VOCABULARY = Spec("vocabulary", "tests/equality/vocabulary.lua", 5, True, "synthetic", {"x": [8]}, ids=45)
SEQUENCES = Spec("sequences", "tests/equality/vocabulary.lua", 5, True, "synthetic", {"x": [8]}, ids=45,
                 words=["--sequence-parallel"])
LOGITS = Spec("logits_of_stages", "tests/equality/logits_of_stages.lua", 3, False, FASHION, IMAGE)
EVALUATED = Spec("evaluated", "tests/equality/evaluated.lua", 3, False, FASHION, IMAGE)
SPECS = [
    Spec("mlp", "specs/mlp.lua", 4, True, FASHION, IMAGE),
    Spec("column", "specs/sharded_linear.lua", 1, True, "synthetic", {"x": [1024]}, "layer=column"),
    Spec("row", "specs/sharded_linear.lua", 1, True, "synthetic", {"x": [1024]}, "layer=row"),
    Spec("pair", "specs/sharded_linear.lua", 2, True, "synthetic", {"x": [1024]}, "layer=pair"),
    Spec("residual_across_cut", "tests/spec/residual_across_cut.lua", 4, False, FASHION, IMAGE),
    Spec("shared_weight", "tests/spec/shared_weight.lua", 5, False, FASHION, IMAGE),
    Spec("two_losses", "tests/spec/two_losses.lua", 4, False, "synthetic", {"left": [12], "right": [8]}),
    Spec("chains", "tests/equality/chains.lua", 7, True, "synthetic", {"x": [6, 8]}),
    Spec("uneven", "tests/equality/uneven.lua", 7, True, FASHION, IMAGE),
    Spec("factored", "tests/equality/factored.lua", 2, False, "synthetic", {"x": [16]}),
    Spec("reuse", "tests/equality/reuse.lua", 5, True, FASHION, IMAGE),
    Spec("skip_many", "tests/equality/skip_many.lua", 8, True, "synthetic", {"x": [16]}),
    Spec("side_output", "tests/equality/side_output.lua", 3, True, "synthetic", {"x": [6]}),
    Spec("layers", "tests/equality/layers.lua", 8, True, "synthetic", {"x": [10]}),
    Spec("layers_odd", "tests/equality/layers.lua", 9, True, "synthetic", {"x": [10]}, "layers=7", "odd=4"),
    Spec("layers_before", "tests/equality/layers.lua", 8, True, "synthetic", {"x": [10]}, "before=2"),
    Spec("heads", "tests/equality/heads.lua", 3, True, "synthetic", {"x": [3, 16]}),
    Spec("attends", "tests/equality/attends.lua", 3, True, "synthetic", {"x": [12]}, groups=4),
    Spec("gelus", "tests/equality/gelus.lua", 5, True, "synthetic", {"x": [2, 16]}),
    Spec("attends_drops", "tests/equality/attends.lua", 3, True, "synthetic", {"x": [12]}, "dropout=0.3", groups=4),
    Spec("rows", "tests/equality/rows.lua", 3, True, "synthetic", {"x": [12]}),
    VOCABULARY,
    SEQUENCES,
    Spec("chunks", "tests/equality/vocabulary.lua", 5, True, "synthetic", {"x": [8]}, "chunks=4", ids=45),
    Spec("momentum", "specs/mlp.lua", 4, True, FASHION, IMAGE, "momentum=0.9", "weight_decay=0.001", "schedule=linear",
         "width=101"),
    Spec("adamw", "tests/equality/adamw.lua", 7, True, FASHION, IMAGE),
    Spec("convnet", "specs/convnet.lua", 5, True, "synthetic", {"image": [3, 12, 12]}, "image=12", "width=6", "lr=0.02",
         "momentum=0.9", "weight_decay=0.001", statistics="replica"),
    Spec("resnet", "specs/resnet.lua", 8, True, "synthetic", {"image": [3, 16, 16]}, "image=16", "width=4", "classes=10",
         statistics="replica", steep=True),
    Spec("resnet_sync", "specs/resnet.lua", 8, True, "synthetic", {"image": [1, 16, 16]}, "channels=1", "image=16", "width=3",
         "classes=7", "cuts=layers", "sync=true", statistics="all", steep=True),
    Spec("images", "tests/equality/images.lua", 6, True, "synthetic", {"x": [3, 9, 7]}, statistics="replica"),
    Spec("drops", "tests/equality/drops.lua", 6, True, "synthetic", {"x": [2, 6, 5]}, statistics="all"),
    EVALUATED,
]
# Whole language models, with dropout: six blocks, and stages for what is before and behind. Heads that tp=3 divides in one.
TINY = ("layers=6", "vocab=61", "context=8", "dropout=0.1", "warmup=4", "lr=0.003")
LLAMA = ("heads=8", "kv_heads=4", "width=64", "ff=40")


def language(name, groups, *define):
    """With the positions of the residual stream split over tp, and without."""
    path = f"specs/{name.split('_')[0]}.lua"
    plain, split = [Spec(name + end, path, 8, True, "synthetic", {"tokens": [8]}, *TINY, *define, groups=groups, ids=61, words=words)
                    for end, words in (("", []), ("_sequences", ["--sequence-parallel"]))]
    split.plain = plain
    return [plain, split]


LANGUAGE = [*language("gpt2", 8, "heads=8", "width=64"), *language("llama", 4, *LLAMA, "tied=false"),
            *language("gpt2_of_3", 6, "heads=6", "width=48"), *language("llama_tied", 4, *LLAMA, "tied=true")]


def chunked(spec, *define):
    """The language model with its logits made chunk by chunk, which is compared with the whole head."""
    found = Spec(spec.name + "_chunked", spec.path, spec.blocks, spec.tp, spec.data, spec.inputs, *spec.define[1::2], "loss_chunks=4",
                 *define, groups=spec.groups, ids=spec.ids, words=spec.words)
    found.plain = spec.plain
    return found


CHUNKED = [chunked(spec) for spec in LANGUAGE if spec.name in ("gpt2", "gpt2_sequences", "gpt2_of_3", "llama")]
# Tables of so many rows that replicas gather those that were looked up instead of reducing the gradient.
LARGE_TABLES = [Spec(f"{spec.name}_large", spec.path, spec.blocks, spec.tp, spec.data, spec.inputs, *spec.define[1::2], "vocab=2501", groups=spec.groups, ids=2501,
                     words=spec.words) for spec in LANGUAGE if spec.name in ("gpt2", "llama", "llama_sequences")]
# The smallest cases of mistakes that the sample of plans need not meet.
NORM_OF_SAMPLES = Spec("norm_of_samples", "tests/equality/norm_of_samples.lua", 1, True, "synthetic", {"x": [3, 4, 4]},
                       statistics="replica")
BIASES = Spec("biases", "tests/equality/biases.lua", 3, True, "synthetic", {"x": [12]})
OFFSETS = Spec("offsets", "tests/bf16/offsets.lua", 1, False, "synthetic", {"x": [600, 16]})
CLASS_SHARDS = Spec("class_shards", "tests/equality/class_shards.lua", 1, True, "synthetic", {"x": [4]})


def mesh_text(mesh):
    named = [f"{axis}={n}" for axis, n in zip(("dp", "tp", "pp"), mesh) if n > 1]
    return ",".join(named) or "1"


def batch_of(dp, microbatches):
    """The batch of a plan: 64, or the least above that dp and the micro-batches divide."""
    split = dp * microbatches
    return -(-BATCH // split) * split


def program(spec, mesh, microbatches, dtype, *more, batch=None):
    """The program of a plan; batch is the same for what it is compared with."""
    return Program(spec.path, *spec.define, "--mesh", mesh_text(mesh), "--batch", batch or batch_of(mesh[0], microbatches),
                   "--microbatches", microbatches, "--dtype", dtype, *spec.words, *more)
