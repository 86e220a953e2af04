"""GPT-2 and LLaMA between here and Hugging Face's transformers, where that is installed (a virtual environment with
--system-site-packages and `pip install transformers==4.40.2` fits Debian's PyTorch; run tests/run with its python).

A model of random weights that transformers saved is loaded here and gives the same logits; what is trained here and saved by
several ranks is loaded by transformers, no name left over, and gives the logits that inference here gives.
"""
import contextlib
import io
import shutil

import numpy

from lib import safetensors
from lib.harness import ROOT, WORK, Program, Skip, check

WORDS, CONTEXT, BATCH = 61, 16, 4
OPTIONS = {"gpt2": ("width=32", "heads=4", "layers=2"), "llama": ("width=32", "heads=4", "kv_heads=2", "ff=40", "layers=2", "tied=false")}


def transformers():
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            import torch
            import transformers as library
    except ModuleNotFoundError as missing:
        raise Skip(f"{missing.name} is not installed")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    torch.manual_seed(3)
    return torch, library


def random_model(torch, library, family):
    if family == "gpt2":
        config = library.GPT2Config(vocab_size=WORDS, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, bos_token_id=60,
                                    eos_token_id=60)
    else:
        config = library.LlamaConfig(vocab_size=WORDS, max_position_embeddings=CONTEXT, hidden_size=32, intermediate_size=40,
                                     num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
                                     rope_theta=500000.0)
    model = library.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)     # biases and norms too
    return model


def program(family, mesh, *words):
    options = [word for option in (*OPTIONS[family], f"vocab={WORDS}", f"context={CONTEXT}") for word in ("-D", option)]
    return Program(ROOT / f"specs/{family}.lua", *options, "--mesh", mesh, "--batch", BATCH, *words)


def both_ways(family):
    torch, library = transformers()
    folder = WORK / "weights" / f"published-{family}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokens = numpy.random.default_rng(1).integers(0, WORDS, (BATCH, CONTEXT)).astype("<i4")
    safetensors.write(folder / "data.safetensors", {"tokens": tokens, "labels": numpy.roll(tokens, -1, 1)})

    def theirs(path):
        model, left = library.AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
        check(not any(left.values()), f"{path}: {left}")
        return model.eval()(torch.tensor(tokens, dtype=torch.long)).logits.detach().numpy()

    def compare(path, mesh):
        program(family, mesh, "--mode", "infer").run("--data", folder / "data.safetensors", "--load", path, "--output",
                                                     folder / "out.safetensors")
        ours, want = safetensors.read(folder / "out.safetensors")["logits"][..., :WORDS], theirs(path)
        error = abs(ours - want).max() / abs(want).max()
        check(error < 1e-5, f"{path.name} on {mesh}: logits differ by {error:.2g} of the largest")

    random_model(torch, library, family).save_pretrained(folder / "one", safe_serialization=True)
    random_model(torch, library, family).save_pretrained(folder / "several", safe_serialization=True, max_shard_size="20KB")
    compare(folder / "one", "1")
    compare(folder / "several", "tp=2,pp=2")
    program(family, "tp=2,pp=2").run("--data", folder / "data.safetensors", "--load", folder / "one", "--steps", 3, "--save",
                                     folder / "save", "--max-shard-size", "20KB")
    compare(folder / "save/step_3", "1")
