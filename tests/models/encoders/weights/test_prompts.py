"""Prompts that a model registers are read from its folder."""

import json
from pathlib import Path

import pytest

from mmprep.models.encoders.weights.prompts import SETTINGS, registered_prompts


@pytest.mark.parametrize(
    ("settings", "prompts"),
    [
        ({}, (None, "")),
        ({"prompts": {"query": "query: ", "document": "passage: "}}, ("passage: ", "")),
        ({"prompts": {"query": "query: ", "passage": "p: ", "corpus": "c: "}}, ("p: ", "")),
        ({"prompts": {"corpus": "c: "}, "default_prompt_name": "corpus"}, ("c: ", "c: ")),
        ({"prompts": {"query": "query: "}, "default_prompt_name": "query"}, (None, "query: ")),
        ({"prompts": {"query": "", "document": ""}, "default_prompt_name": None}, ("", "")),
        ({"prompts": {"document": 5}}, (None, "")),
        ({"prompts": ["document"]}, (None, "")),
        ([], (None, "")),
        ("{", (None, "")),
    ],
)
def test_document_prompt_and_default_prompt_are_read(
    tmp_path: Path, settings: object, prompts: tuple[str | None, str]
) -> None:
    (tmp_path / SETTINGS).write_text(settings if isinstance(settings, str) else json.dumps(settings))
    assert registered_prompts(tmp_path) == prompts


def test_a_folder_without_the_file_registers_none(tmp_path: Path) -> None:
    assert registered_prompts(tmp_path) == (None, "")
