"""A config.json as training writes it, and ways in which one can be damaged."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "mmprep": "0.1.0",
    "stage": "train",
    "params": {"embedding_size": 8},
    "inputs": {"processed/toys/users.parquet": "0" * 64},
    "libraries": {"torch": "2.6.0"},
    "recommender": "bpr",
    "features": {},
    "train": {"batch_size": 128, "max_epochs": 4, "patience": 2, "seed": 1},
    "outputs": {"checkpoint.safetensors": "1" * 64, "embeddings.safetensors": "2" * 64},
}

OF_TYPE = "missing or of another type: "


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def written(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def without(*keys: str) -> Callable[[Path], None]:
    """Take out keys, of a mapping within where dots are."""

    def damage(path: Path) -> None:
        config = json.loads(path.read_text())
        for key in keys:
            *outer, last = key.split(".")
            inner = config
            for each in outer:
                inner = inner[each]
            del inner[last]
        path.write_text(json.dumps(config))

    return damage


def with_values(values: Mapping[str, object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (written(b""), "not JSON"),
    "cut off": (cut_off, "not JSON"),
    "no text": (written(b"\xff\xfe{}"), "not JSON"),
    "too deep": (written(b"[" * 100_000), "not JSON"),
    "a list": (written(b"[]"), "found list, expected an object"),
    "a number": (written(b"3"), "found int, expected an object"),
    "a folder": (make_folder, "Is a directory"),
    "no keys": (written(b"{}"), OF_TYPE + ", ".join(CONFIG)),
    "no inputs": (without("inputs"), OF_TYPE + "inputs"),
    "no outputs, no params": (without("outputs", "params"), OF_TYPE + "params, outputs"),
    "no seed": (without("train.seed"), OF_TYPE + "train"),
    "seed below zero": (with_values({"train": {**CONFIG["train"], "seed": -1}}), OF_TYPE + "train"),
    "inputs a list": (with_values({"inputs": []}), OF_TYPE + "inputs"),
    "digest a number": (with_values({"outputs": {"checkpoint.safetensors": 1}}), OF_TYPE + "outputs"),
    "encoder null": (with_values({"features": {"image": None}}), OF_TYPE + "features"),
    "pseudo tokens text": (with_values({"pseudo_tokens": "vgg16"}), OF_TYPE + "pseudo_tokens"),
}
"""How each kind of damage is done to a config.json, and the reason that is given."""
