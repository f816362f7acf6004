"""What the README points to: files and commands. `tests/end_to_end/test_readme.py` runs the commands."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner
from imports import ROOT

from mmprep.stages.cli.main import main

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_files_that_the_readme_links_to_exist(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("line", re.findall(r"^mmprep (?!--help)(.*)$", README, flags=re.MULTILINE))
def test_commands_of_the_readme_have_the_names_and_options_of_ours(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    parsed = CliRunner().invoke(main, shlex.split(line))
    assert parsed.exit_code == 0, parsed.output
