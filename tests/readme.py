"""The README's commands, and how they are run."""

import re
from pathlib import Path

from checkout import run
from imports import ROOT

README = (ROOT / "README.md").read_text()
OWN_DATA = "## Your own data\n"
# Recommenders of DVC experiments are fewer and trained for less long: those of the demo have shown how well they get.
FEWER = " -S train.max_epochs=20 -S train.collaborative=[bpr] -S train.item_graphs=[]"


def section_of_own_data() -> str:
    """The one section whose commands need none of the commands before."""
    return re.split(r"^(?=## )", README.partition(OWN_DATA)[2], flags=re.MULTILINE)[0]


def commands(text: str) -> list[str]:
    """Those of a text of the README; `make test` is what runs this test, and cannot be in it."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("make test")]


def run_all(folder: Path, listed: list[str]) -> dict[str, str]:
    """What each command printed, one after the other in a checkout. The virtual environment is that of the tests."""
    return {command: run(folder, "bash", "-ec", in_users_shell(command)) for command in listed}


def in_users_shell(command: str) -> str:
    """The command with the activation of .venv left to the environment, which has the tests' one on its path."""
    fewer = FEWER if command.startswith("dvc exp run") else ""
    return command.replace(". .venv/bin/activate && ", "") + fewer
