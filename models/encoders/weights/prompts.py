"""Prompts that a sentence-transformers model registers, read from its folder without loading it."""

import json
from pathlib import Path

SETTINGS = "config_sentence_transformers.json"
DOCUMENT_NAMES = ("document", "passage", "corpus")  # in the order in which sentence-transformers' encode_document looks


def registered_prompts(folder: Path) -> tuple[str | None, str]:
    """The prompt for documents, None if none is registered, and the default prompt, empty if none is set.

    A file that is no such configuration registers none; loading the model reports it.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
        document = next((prompts[name] for name in DOCUMENT_NAMES if isinstance(prompts.get(name), str)), None)
        return document, str(prompts.get(default) or "") if default else ""
    except (OSError, ValueError, AttributeError, TypeError):
        return None, ""
