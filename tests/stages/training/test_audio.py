"""A third modality: audio features that others have computed, from their file to trained recommenders."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from worlds import one_thread, two_groups, write_vectors, write_world

from mmprep.models.recommenders.catalogue import CATALOGUE
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.graphs.reader import read_graph
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.stages.cli.main import main
from mmprep.stages.graphs.mixed import shares_of
from mmprep.stages.maintenance import verify

TOYS = Layout(Path("data"), "toys")
AUDIO = {"encoders": "[vgg16, minilm, acoustic]", "graphs": "[vgg16, minilm, acoustic]", "audio": "acoustic"}
PARAMS = """dataset: toys
extract: {{encoders: {encoders}}}
encoders:
  acoustic: {{library: file, path: audio_feat.npy, modality: audio}}
graphs: {{encoders: {graphs}, knn: {{k: 5}}, mixed: {{image_weight: 0.2}}}}
train:
  collaborative: []
  multimodal: [vbpr]
  item_graphs: [freedom]
  image: vgg16
  text: minilm
  audio: "{audio}"
  max_epochs: 1
  batch_size: 128
"""
MULTIMODAL = [name for name, row in CATALOGUE.items() if row.multimodal]


@pytest.fixture(autouse=True)
def one_thread_and_loggers_as_they_were() -> Iterator[None]:
    root, name = logging.getLogger(), logging.getLevelName(logging.WARNING)
    handlers, level = list(root.handlers), root.level
    with one_thread():
        yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.addLevelName(logging.WARNING, name)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Two groups of items with photo and text features, and a file of 128 numbers of each recording but the last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    world = two_groups()
    write_world(world, TOYS)
    for encoder, modality in (("vgg16", "image"), ("minilm", "text")):
        write_vectors(TOYS, encoder, world.features[modality])
    write_recordings(seed=0)
    Path("params.yaml").write_text(PARAMS.format(**AUDIO))
    return TOYS


def write_recordings(seed: int) -> None:
    TOYS.raw.mkdir(parents=True, exist_ok=True)
    np.save(TOYS.raw / "audio_feat.npy", np.random.default_rng(seed).normal(size=(59, 128)).astype(np.float32))
    rows = "".join(f"i{item}\t{item}\n" for item in range(59))
    (TOYS.raw / "i_id_mapping.csv").write_text(f"asin\titemID\n{rows}")


def mmprep(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def unsound(layout: Layout) -> set[Path]:
    return {finding.path for finding in verify.run(layout) if finding.state != "ok"}


def done(*arguments: str) -> str:
    result = mmprep(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*arguments: str) -> str:
    result = mmprep(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    return result.stderr.removeprefix("error: ").rstrip()


def test_audio_goes_all_the_way_from_a_file_to_every_multimodal_recommender(toys: Layout) -> None:
    done("extract", "--modality", "audio")
    features = FeatureSet.open(toys.features("acoustic")).vectors()
    np.testing.assert_array_equal(features.vectors, np.load(toys.raw / "audio_feat.npy"))
    assert features.items.tolist() == list(range(59))
    for name in ("knn/vgg16", "knn/minilm", "knn/acoustic", "mixed", "consistent", "cooccurrence", "interaction"):
        done("graph", "--graph", name)
    assert {path.stem for path in toys.graph_folder("consistent").iterdir()} == {"image", "text", "audio"}
    for name in MULTIMODAL:
        done("train", "--recommender", name)
        config = json.loads(toys.run(name).config.read_text())
        assert config["features"] == {"image": "vgg16", "text": "minilm", "audio": "acoustic"}
        assert "features/toys/acoustic/part-00000-of-00001.parquet" in config["inputs"]
    by_hand = {toys.features(encoder) for encoder in ("vgg16", "minilm")}  # their provenance names no encoder
    assert unsound(toys) == by_hand
    write_recordings(seed=1)
    done("extract", "--modality", "audio")
    made_of_audio = {toys.graph("knn/acoustic"), *toys.graph_folder("consistent").iterdir()}
    assert unsound(toys) == by_hand | made_of_audio | {toys.run(name).folder for name in MULTIMODAL}


def test_all_modalities_have_to_agree_on_consistent_neighbours(toys: Layout) -> None:
    done("extract", "--modality", "audio")
    found = []
    for audio in ("", "acoustic"):
        Path("params.yaml").write_text(PARAMS.format(**AUDIO | {"audio": audio}))
        done("graph", "--graph", "consistent")
        graph = read_graph(toys, "consistent/text")
        graph.setdiag(0)
        found.append(graph.count_nonzero())
        parts = {path.stem for path in toys.graph_folder("consistent").iterdir()}
        assert parts == {"image", "text"} | ({"audio"} if audio else set())
    vectors = FeatureSet.open(toys.features("acoustic")).vectors().vectors
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit.astype(np.float64) @ unit.T
    source, target = graph.nonzero()
    assert (cosines[source, target] >= cosines.mean() - 1e-6).all()
    assert 0 < found[1] <= found[0]


def test_mixed_graph_shares_what_the_image_graph_leaves(toys: Layout) -> None:
    done("extract", "--modality", "audio")
    for name in ("knn/vgg16", "knn/minilm", "knn/acoustic", "mixed"):
        done("graph", "--graph", name)
    # Rows of five neighbours, whose weights are a fifth: each modality's part of an item's row is its share.
    sums = read_graph(toys, "mixed").sum(axis=1)
    np.testing.assert_allclose(sums[:59], 1, atol=1e-5)
    assert sums[59] == pytest.approx(0.2 + 0.4)  # it has no recording
    assert set(read_provenance(toys.graph("mixed"))["inputs"]) == {
        f"graphs/toys/knn/{encoder}.parquet" for encoder in ("vgg16", "minilm", "acoustic")
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("image",), {"image": 1}),
        (("audio",), {"audio": 1}),
        (("image", "text"), {"image": 0.2, "text": 0.8}),
        (("image", "audio"), {"image": 0.2, "audio": 0.8}),
        (("text", "audio"), {"text": 0.5, "audio": 0.5}),
        (("image", "text", "audio"), {"image": 0.2, "text": 0.4, "audio": 0.4}),
    ],
)
def test_shares_of_the_mixed_graph(names: tuple[str, ...], expected: dict[str, float]) -> None:
    assert shares_of(names, 0.2) == expected


def test_audio_alone_is_a_modality(toys: Layout) -> None:
    done("extract", "--modality", "audio")
    text = PARAMS.format(**AUDIO).replace("image: vgg16", 'image: ""').replace("text: minilm", 'text: ""')
    Path("params.yaml").write_text(text)
    done("train", "--recommender", "vbpr")
    assert load_file(toys.run("vbpr").checkpoint)["projection.weight"].shape[1] == 128


@pytest.mark.usefixtures("toys")
def test_export_writes_audio_where_the_form_has_a_place_for_it() -> None:
    done("extract", "--modality", "audio")
    done("export", "--to", "numpy", "numpy")
    assert np.load("numpy/acoustic.npy").shape == (60, 128)
    assert np.load("numpy/acoustic_mask.npy").sum() == 59
    done("export", "--to", "ducho", "ducho")
    assert len(list(Path("ducho/audio").iterdir())) == 59
    asked = json.loads(Path("ducho/provenance.json").read_text())["params"]
    assert asked == {"target": "ducho", "image": "vgg16", "text": "minilm", "audio": "acoustic"}
    message = (
        "audio: found acoustic, but MMRec reads features of images and texts alone; write it as its text features "
        "by `mmprep export --to mmrec mmrec --as text=acoustic`, or leave it out by --audio ''"
    )
    assert refusal("export", "--to", "mmrec", "mmrec") == message
    assert not Path("mmrec").exists()
    command = message.partition("`mmprep ")[2].partition("`")[0]
    assert "acoustic, in place of minilm" in done(*command.split())
    np.testing.assert_array_equal(np.load("mmrec/text_feat.npy"), np.load("numpy/acoustic.npy"))
    np.testing.assert_array_equal(np.load("mmrec/image_feat.npy"), np.load("numpy/vgg16.npy"))
    provenance = json.loads(Path("mmrec/provenance.json").read_text())
    assert provenance["written_as"] == {"text": "acoustic"}
    assert provenance["params"] == asked | {"target": "mmrec"}
    assert {modality: told["encoder"] for modality, told in provenance["encoded"].items()} == {
        "image": "vgg16",
        "text": "acoustic",
    }
    done("export", "--to", "mmrec", "mmrec", "--audio", "")
    assert {path.name for path in Path("mmrec").glob("*_feat.npy")} == {"image_feat.npy", "text_feat.npy"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": "minilm"}, "train.audio: found 'minilm', an encoder of text, expected one of audio"),
        (
            {"encoders": "[vgg16, minilm]", "graphs": "[vgg16]"},
            "train.audio: found 'acoustic', expected one of extract.encoders (vgg16, minilm)",
        ),
        (
            {"graphs": "[vgg16, minilm]"},
            "train.audio: found 'acoustic', expected one of graphs.encoders (vgg16, minilm)",
        ),
    ],
)
@pytest.mark.usefixtures("toys")
def test_impossible_audio_is_named(changes: dict[str, str], message: str) -> None:
    Path("params.yaml").write_text(PARAMS.format(**AUDIO | changes))
    assert refusal("train") == f"params.yaml: {message}"


@pytest.mark.usefixtures("toys")
def test_extracting_audio_needs_an_encoder_of_it() -> None:
    Path("params.yaml").write_text(PARAMS.format(encoders="[vgg16, minilm]", graphs="[vgg16, minilm]", audio=""))
    assert refusal("extract", "--modality", "audio") == "params.yaml: extract.encoders lists no encoder of audio"
