"""What is shown on a terminal, and what in a log file."""

import os
from pathlib import Path

import pytest

from mmprep.models.encoders.catalogue import CATALOGUE
from mmprep.stages.cli.console import (
    bar,
    new_table,
    print_table,
    show,
    show_cached,
    show_doubts,
    show_encoder,
    show_finding,
    timed,
)
from mmprep.stages.explore.denoise import DoubtfulInteraction
from mmprep.stages.maintenance.cache import FolderStats
from mmprep.stages.maintenance.verify import Finding


def test_metrics_are_shown_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show("filter", {"users": 3, "sparsity": 0.98765, "reasons": {"broken JSON": 2, "empty file": 1}, "none": {}})
    assert capsys.readouterr().out.splitlines() == [
        "filter",
        "  users                      3",
        "  sparsity                   0.9877",
        "  reasons                    2 broken JSON, 1 empty file",
        "  none                       none",
    ]


@pytest.mark.parametrize("total", [10, None])
def test_the_bar_is_quiet_in_a_log_file(capfd: pytest.CaptureFixture[str], total: int | None) -> None:
    with bar("encoding", total, "photos") as advance:
        advance(4, "remark")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("total", [10, None])
def test_the_bar_shows_task_count_unit_and_remark_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: int | None
) -> None:
    monkeypatch.setitem(os.environ, "FORCE_COLOR", "1")
    monkeypatch.setitem(os.environ, "COLUMNS", "160")
    with bar("encoding", total, "photos") as advance:
        advance(4, "")
        advance(3, "loss 0.5")
    shown = capsys.readouterr()
    assert shown.out == ""
    for part in ("encoding", "7/", "photos", "loss 0.5"):
        assert part in shown.err


def test_a_stage_is_timed_and_its_metrics_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with timed("filter") as done:
        done({"users": 3})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("filter (0.")
    assert first.endswith(" s)")
    assert second.split() == ["users", "3"]


def test_a_stage_that_fails_shows_no_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), timed("filter") as done:
        done({"users": 3})
        raise ValueError("broken")
    assert capsys.readouterr().out == ""


def test_a_table_takes_a_hundred_characters_in_a_log_file(capsys: pytest.CaptureFixture[str]) -> None:
    table = new_table("name", "text")
    table.add_row("a", "long " * 60)
    print_table(table)
    assert max(map(len, capsys.readouterr().out.splitlines())) == 100


def test_an_encoder_is_shown_in_five_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_encoder(CATALOGUE["minilm_tokens"], own=False)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "minilm_tokens: 384, one vector per token"
    assert [line.split()[0] for line in lines] == ["output", "input", "pretrained", "licence"]
    assert lines[2] == "  pretrained sentence-transformers/all-MiniLM-L6-v2"


def test_what_is_cached_is_shown_with_what_is_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    made = {"encoder": "vgg16", "weights": "random:0 of torch 2", "precision": "fp32", "stored_as": "f16"}
    show_cached(FolderStats("vgg16-0123", made, shards=2, rows=10, bytes=40_960, damaged=0, used=None))
    assert capsys.readouterr().out.splitlines() == [
        "vgg16: 10 rows, 41.0 kB, 2 shards",
        "  folder     vgg16-0123",
        "  weights    random:0 of torch 2",
        "  precision  fp32, stored as f16",
        "  last used  not known",
    ]
    show_cached(FolderStats("vgg16-0123", {"encoder": "vgg16"}, shards=2, rows=10, bytes=1, damaged=3, used=1.7e9))
    shown = capsys.readouterr().out
    assert "  last used  2023-11-1" in shown
    assert "  damaged    3 shards set aside" in shown


def test_a_finding_says_what_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    show_finding(Finding(Path("a"), "ok"))
    show_finding(Finding(Path("b"), "stale", "made of another a; run `mmprep filter`"))
    assert capsys.readouterr().out.splitlines() == [
        "ok       a",
        "stale    b",
        "         made of another a; run `mmprep filter`",
    ]


def test_interactions_that_are_believed_least_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_doubts(
        [DoubtfulInteraction("u7", "i1", "Mug [red]", 0.41234, 0.3), DoubtfulInteraction("u8", "i2", "Cup", 0.5, 0.0)]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "least reliable: 2"
    shown = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]
    assert ["user", "item", "title", "f", "g"] in shown
    assert ["u7", "i1", "Mug [red]", "0.4123", "0.3000"] in shown
