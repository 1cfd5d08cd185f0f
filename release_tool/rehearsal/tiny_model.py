"""A tiny random model for tests: the same bytes each time, and an answer within milliseconds."""

from __future__ import annotations

import json
import random
from pathlib import Path

from release_tool.rehearsal import model, tokenizer_files

_HIDDEN = 32
_INTERMEDIATE = 64
_LAYERS = 2
_HEADS = 4
_KEY_VALUE_HEADS = 2
_CONTEXT = 512
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Letters and digits only: half of a UTF-8 character would make the texts of a stream ragged.
_SAID = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Rows = list[list[float]]


def make(folder: Path, *, seed: int = 1) -> Path:
    """Write a model folder of some 200 kB that mlx-lm loads, and return it.

    It never ends its answer before the limit, and says letters and digits only.

    Raises:
        HostError: mlx is missing.
    """
    mx = model.import_mlx()
    tokens = [*_SPECIAL, *_byte_characters()]
    folder.mkdir(parents=True)
    arrays = {name: mx.array(rows) for name, rows in _tensors(tokens, seed).items()}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})
    files = tokenizer_files.make(
        tokens=tokens,
        merges=(),
        special=range(len(_SPECIAL)),
        names={"bos_token": tokens[1], "eos_token": tokens[2], "pad_token": tokens[2]},
        chat_template=_TEMPLATE,
        max_length=_CONTEXT,
    )
    for name, content in {"config.json": _config(len(tokens)), **files}.items():
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return folder


def _config(vocabulary: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_VALUE_HEADS,
        "max_position_embeddings": _CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": vocabulary,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }


def _tensors(tokens: list[str], seed: int) -> dict[str, Rows | list[float]]:
    numbers = random.Random(seed)  # noqa: S311 - weights, not secrets

    def matrix(count: int, width: int) -> Rows:
        return [[numbers.gauss(0, width**-0.5) for _ in range(width)] for _ in range(count)]

    narrow = _HIDDEN * _KEY_VALUE_HEADS // _HEADS
    found: dict[str, Rows | list[float]] = {
        "model.embed_tokens.weight": matrix(len(tokens), _HIDDEN),
        "model.norm.weight": [1.0] * _HIDDEN,
    }
    for number in range(_LAYERS):
        layer = f"model.layers.{number}"
        found[f"{layer}.input_layernorm.weight"] = [1.0] * _HIDDEN
        found[f"{layer}.post_attention_layernorm.weight"] = [1.0] * _HIDDEN
        found[f"{layer}.self_attn.q_proj.weight"] = matrix(_HIDDEN, _HIDDEN)
        found[f"{layer}.self_attn.k_proj.weight"] = matrix(narrow, _HIDDEN)
        found[f"{layer}.self_attn.v_proj.weight"] = matrix(narrow, _HIDDEN)
        found[f"{layer}.self_attn.o_proj.weight"] = matrix(_HIDDEN, _HIDDEN)
        found[f"{layer}.mlp.gate_proj.weight"] = matrix(_INTERMEDIATE, _HIDDEN)
        found[f"{layer}.mlp.up_proj.weight"] = matrix(_INTERMEDIATE, _HIDDEN)
        found[f"{layer}.mlp.down_proj.weight"] = matrix(_HIDDEN, _INTERMEDIATE)
    # A row of zeros scores zero, and among sixty others one always scores more.
    found["lm_head.weight"] = [
        row if token in _SAID else [0.0] * _HIDDEN
        for token, row in zip(tokens, matrix(len(tokens), _HIDDEN), strict=True)
    ]
    return found


def _byte_characters() -> list[str]:
    """One printable character for each byte, in GPT-2's order: what byte-level BPE writes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(0x100 + at) for at in range(len(others))]
