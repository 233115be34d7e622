"""What a table is to its model: the input or the output tokens, and whether both are one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .documents import document

if TYPE_CHECKING:
    from .checkpoints import Checkpoint, Tensor

INPUT, OUTPUT = "token-input", "token-output"
_CONFIG = "config.json"
#: Names that the table of input tokens has in BERT, GPT-2, LLaMA, T5, BLOOM … and sentence encoders.
_INPUT = re.compile(
    r"(?:.*\.)?(?:embed_tokens|embed_in|word_embeddings|token_embedding|wte|tok_embeddings|shared|embeddings)"
    r"\.weight",
    re.DOTALL,
)
#: Names that the table which scores tokens has; other layers too have a part called output.
_OUTPUT = re.compile(
    r"(?:(?:.*\.)?(?:lm_head|lm_head\.decoder|embed_out|cls\.predictions\.decoder)|(?:model\.)?output)\.weight",
    re.DOTALL,
)


def kind_of(name: str) -> str | None:
    """Return the kind of space that a tensor's name tells: ``token-input``, ``token-output`` or None."""
    if _INPUT.fullmatch(name):
        return INPUT
    return OUTPUT if _OUTPUT.fullmatch(name) else None


def declared(checkpoint: Checkpoint, tensor: Tensor) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what a checkpoint says of the space of its table, and what to tell.

    ``tied`` is said where input and output table are both there: whether they are the same, bit by bit. Where
    there is one, a ``config.json`` beside it may say that it is both.
    """
    kind = kind_of(tensor.name)
    if kind is None:
        return {}, ()
    others = [name for name in checkpoint.names if kind_of(name) not in (None, kind)]
    try:
        tied = _equal(checkpoint, tensor, others) if others else _configured(tensor.path)
    except InputError as exc:
        return {"kind": kind}, (f"not known whether input and output table are tied: {exc.message}",)
    return {"kind": kind} | ({} if tied is None else {"tied": tied}), ()


def _equal(checkpoint: Checkpoint, tensor: Tensor, others: list[str]) -> bool:
    return any(checkpoint.same(tensor, checkpoint.tensor(name)) for name in others)


def _configured(path: Path) -> bool | None:
    """Return True where a configuration beside the table says that it is both; False would need both."""
    config = path.with_name(_CONFIG)
    return True if config.is_file() and document(config).get("tie_word_embeddings") is True else None
