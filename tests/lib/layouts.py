"""GPT-2 and LLaMA: tensors as our programs keep them, and as files of Hugging Face's transformers have them.

The weights that a program saves are in the files' names and layouts. Optimizer state is in its own: queries, keys and values in one
tensor [groups, queries + 2, size, in], gate and up in another. This says it once more than specs/lib/hf.lua does, so that a mistake
there shows.
"""
import numpy

from lib import safetensors


def of_gpt2(name, value):
    """{name in files: tensor} of one parameter."""
    if name.endswith("attn.qkv.weight"):
        return {name.replace("qkv", "c_attn"): value.transpose(3, 1, 0, 2).reshape(value.shape[-1], -1)}
    if name.endswith("attn.qkv.bias"):
        return {name.replace("qkv", "c_attn"): value.transpose(1, 0, 2).ravel()}
    if ".attn.proj." in name:
        return {name.replace("attn.proj", "attn.c_proj"): value.T if value.ndim == 2 else value}
    return {name: value.T if ".mlp." in name and value.ndim == 2 else value}


def of_llama(name, value):
    if name.endswith("self_attn.qkv.weight"):
        parts = {"q": value[:, :-2], "k": value[:, -2:-1], "v": value[:, -1:]}
        return {name.replace("qkv", f"{part}_proj"): rows.reshape(-1, value.shape[-1]) for part, rows in parts.items()}
    if name.endswith("gate_up_proj.weight"):
        return {name.replace("gate_up", part): value[i] for i, part in enumerate(("gate", "up"))}
    return {name.replace("self_attn.proj", "self_attn.o_proj"): value}


OF = {"gpt2": of_gpt2, "llama": of_llama}
BETA = 0.9      # of both specs: the first of AdamW's


def state(checkpoint, family, which="exp_avg"):
    """{name in files: tensor} of an optimizer's state."""
    found = {}
    for name, value in safetensors.read(checkpoint / "optimizer.safetensors").items():
        if name.endswith("." + which):
            found.update(OF[family](name[:-len(which) - 1], value))
    return found


def gradients(checkpoint, family):
    """What the first step, without clipping, took for the gradient of each tensor in files: AdamW's average of it and nothing."""
    return {name: value.astype(numpy.float64) / (1 - BETA) for name, value in state(checkpoint, family).items()}
