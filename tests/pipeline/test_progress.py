"""Progress that nobody shows."""

import pytest

from mmprep.pipeline.progress import silent


def test_silent_progress_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with silent("encoding", 10, "photos") as advance:
        advance(3, "remark")
        advance(7, "")
    assert capfd.readouterr() == ("", "")


def test_silent_progress_lets_errors_through() -> None:
    with pytest.raises(RuntimeError, match="in the middle"), silent("encoding", None, "photos"):
        raise RuntimeError("in the middle")
