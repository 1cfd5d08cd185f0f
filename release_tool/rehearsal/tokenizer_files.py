"""The tokenizer's files of a model folder, written as data: no tokenizer library takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from release_tool import errors

_CONTROL = 3
"""GGUF's token type for tokens that are no text."""
# The splitting rules by GGUF's name for them: digits one by one, then GPT-2's byte level.
_SPLITTERS: Mapping[str, tuple[str, ...]] = {"smollm": ("Digits", "ByteLevel")}

Files = dict[str, dict[str, Any]]


def from_gguf(found: Mapping[str, Any]) -> Files:
    """The files of a byte-level BPE tokenizer that GGUF metadata describes.

    Raises:
        FormatError: another kind of tokenizer.
        KeyError: the metadata lacks something.
    """
    kind = (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"])
    if kind[0] != "gpt2" or kind[1] not in _SPLITTERS:
        raise errors.FormatError(
            "a tokenizer that is not converted here", observed=" / ".join(kind)
        )
    tokens: Sequence[str] = found["tokenizer.ggml.tokens"]
    types: Sequence[int] = found["tokenizer.ggml.token_type"]
    special = [number for number, of in enumerate(types) if of == _CONTROL]
    return make(
        tokens=tokens,
        merges=[merge.split(" ") for merge in found["tokenizer.ggml.merges"]],
        special=special,
        names={
            "bos_token": tokens[found["tokenizer.ggml.bos_token_id"]],
            "eos_token": tokens[found["tokenizer.ggml.eos_token_id"]],
            "pad_token": tokens[found["tokenizer.ggml.padding_token_id"]],
            "unk_token": tokens[found["tokenizer.ggml.unknown_token_id"]],
        },
        chat_template=found["tokenizer.chat_template"],
        max_length=found["llama.context_length"],
        splitters=_SPLITTERS[kind[1]],
    )


def make(
    *,
    tokens: Sequence[str],
    merges: Sequence[Sequence[str]],
    special: Sequence[int],
    names: Mapping[str, str],
    chat_template: str,
    max_length: int,
    splitters: Sequence[str] = ("ByteLevel",),
) -> Files:
    """`tokenizer.json` and `tokenizer_config.json` of a byte-level BPE tokenizer."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    byte_level["use_regex"] = True
    rules = {"ByteLevel": byte_level, "Digits": {"type": "Digits", "individual_digits": True}}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(number, tokens[number]) for number in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [rules[n] for n in splitters]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [list(merge) for merge in merges],
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "chat_template": chat_template,
        **names,
    }
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}


def _added(number: int, token: str) -> dict[str, Any]:
    return {
        "id": number,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
