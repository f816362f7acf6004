"""The commands of the README's section on one's own data, in a fresh checkout: beside the others, on another core."""

import pytest
from checkout import check_out
from readme import commands, run_all, section_of_own_data

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command printed."""
    return run_all(check_out(tmp_path_factory.mktemp("own_data") / "mmprep"), commands(section_of_own_data()))


def test_report_is_of_the_own_dataset(outputs: dict[str, str]) -> None:
    assert "Running stage 'ingest'" in outputs["dvc exp run -S dataset=tiny"]
    shown = outputs["mmprep report --dataset tiny"]
    assert all(word in shown for word in ("tiny", "bpr", "vbpr", "recall@20"))


def test_inspect_shows_what_made_the_features(outputs: dict[str, str]) -> None:
    shown = outputs["mmprep inspect data/features/tiny/minilm/part-00000-of-00001.parquet"]
    assert '"pretrained": true' in shown
