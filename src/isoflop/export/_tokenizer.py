"""The tokenizer of a run as `AutoTokenizer` loads it: any text gives the ids that it had in training, and ids give back the text."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from isoflop.arch import Shape
from isoflop.data import tokenizer as ids
from isoflop.data.corpus import META, digest_of
from isoflop.errors import StoreError
from isoflop.runs import RunSpec
from isoflop.store import files


def find(corpus: Path, spec: RunSpec) -> Path | None:
    """The file of the BPE that the run was trained with; None where that was bytes, which need none.

    Args:
        corpus: The folder of the study's text.
        spec: Of the run, which names the text by its digest.

    Raises:
        StoreError: The text is gone, or another.
    """
    if spec.shape.vocab == ids.Bytes.vocab:  # the smallest BPE has two more
        return None
    path = corpus / ids.FILE
    if not path.is_file():
        raise StoreError(f"{path} is not there, and without its tokenizer the model's ids mean nothing. Prepare the study's text again: isoflop design STUDY.")
    meta = files.read_json(corpus / META)
    digests, vocab = meta.get("sha256"), meta.get("vocab")
    if not isinstance(digests, dict) or not isinstance(vocab, int) or digest_of(digests, vocab) != spec.data:
        raise StoreError(f"{corpus} holds another text than run {spec.id} was trained on ({spec.data}), and its tokenizer is another. Give the study that did.")
    if hashlib.sha256(files.read(path)).hexdigest() != digests.get(ids.FILE):
        raise StoreError(f"{path} has changed since run {spec.id} was trained with it. Delete the folder {corpus}; `isoflop design STUDY` builds it again.")
    return path


def contents(bpe: Path | None, shape: Shape) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json.

    Args:
        bpe: The file that `find` gave.
        shape: Of the run.

    Raises:
        StoreError: The file cannot be read.
    """
    separator = "\0" if bpe is None else ids.SEPARATOR_TEXT
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": separator,
        "eos_token": separator,
        "pad_token": separator,
        "split_special_tokens": bpe is not None,  # "<|end|>" inside a text is text; NUL is the separator wherever it comes from
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "model_input_names": ["input_ids", "attention_mask"],  # transformers 4 would give a llama token types too, which it refuses
    }
    return {ids.FILE: _of_bytes() if bpe is None else files.read(bpe), "tokenizer_config.json": files.canonical(config)}


def _of_bytes() -> bytes:
    """A byte-level BPE without merges, each byte its own id; the separator is NUL itself, so that the sign which stands for NUL remains a text's own."""
    signs = {"\0" if byte == ids.SEPARATOR else sign: byte for byte, sign in enumerate(_alphabet())}
    special = {"id": ids.SEPARATOR, "content": "\0", "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    fields = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "vocab": signs, "merges": []},
    }
    return (json.dumps(fields, ensure_ascii=False, indent=1) + "\n").encode()


def _alphabet() -> Iterator[str]:
    """The sign of byte-level BPE for each byte: itself where that is seen in Latin-1, else the next from 256 on (Radford et al. 2019, encoder.py)."""
    unseen = 256
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174:
            yield chr(byte)
        else:
            yield chr(unseen)
            unseen += 1
