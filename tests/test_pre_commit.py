"""The hooks of pre-commit: programs of the environment, the same commands as those of the Makefile."""

import shutil
from typing import Any

import pytest
from checkout import environment, run
from imports import ROOT
from ruamel.yaml import YAML

CONFIG = YAML(typ="safe", pure=True).load(ROOT / ".pre-commit-config.yaml")
HOOKS: list[dict[str, Any]] = [hook for repo in CONFIG["repos"] for hook in repo["hooks"]]


def test_hooks_fetch_nothing() -> None:
    assert {repo["repo"] for repo in CONFIG["repos"]} == {"local"}
    assert {hook["language"] for hook in HOOKS} == {"system"}


@pytest.mark.parametrize("entry", [hook["entry"] for hook in HOOKS])
def test_hook_runs_a_command_of_the_makefile_with_an_installed_program(entry: str) -> None:
    assert entry in (ROOT / "Makefile").read_text()
    assert shutil.which(entry.split()[0], path=environment()["PATH"])


@pytest.mark.parametrize("entry", [hook["entry"] for hook in HOOKS if hook["entry"].startswith("ruff")])
def test_hook_passes_on_this_checkout(entry: str) -> None:
    run(ROOT, *entry.split())
