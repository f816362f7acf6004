from pathlib import Path
from statistics import mean, stdev

import pytest
from fake_place import FakePlace

from mmprep.pipeline.errors import DataError, MissingInputError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import parse_section
from mmprep.stages.experiments.runner import Result, RunRequest, run_points, slug
from mmprep.stages.experiments.spec import ExperimentSpec, points
from mmprep.stages.experiments.table import lines, notes, write_table

FILE = parse_section(
    ExperimentSpec,
    {
        "paper": "P",
        "source": "Table 1",
        "shows": "two",
        "metrics": ["recall@20", "ndcg@20"],
        "notes": ["all are toys"],
        "rows": [
            {"label": "BPR", "recommender": "bpr", "published": {"baby": [0.05, 0.02], "sports": [0.1, None]}},
            {"label": "VBPR, k = 1", "recommender": "vbpr", "set": {"train.image": "", "recommenders.vbpr.layers": 1}},
            {"label": "MICRO", "published": {"baby": [0.08, 0.04]}, "note": "not ours"},
        ],
    },
    "",
    "test",
)
VALID = FILE.model_copy(update={"rows": (FILE.rows[0], FILE.rows[1].model_copy(update={"set": {}}), FILE.rows[2])})
VALUES = {
    "dataset": "toys",
    "encoders": {"vgg16": {"weights": "random:3"}},
    "extract": {"encoders": ["vgg16", "minilm"]},
}


@pytest.fixture
def layout(in_folder: Path) -> Layout:
    (in_folder / "data" / "raw" / "toys").mkdir(parents=True)
    return Layout(Path("data"), "toys")


def run(place: FakePlace, layout: Layout, *seeds: int, file: ExperimentSpec = VALID) -> list[Result]:
    return run_points(points(file), RunRequest("p-table1", seeds or (0,), VALUES), place, layout)


def test_each_row_runs_with_each_seed_up_to_its_own_test(layout: Layout) -> None:
    place = FakePlace()
    run(place, layout, 4, 5)
    names = [name.rpartition("-")[0] for name, _, _ in place.ran]
    assert names == [f"p-table1-{row}-toys-s{seed}" for row in ("bpr", "vbpr-k-1") for seed in (4, 5)]
    assert [target for _, _, target in place.ran] == ["evaluate@bpr"] * 2 + ["evaluate-multimodal@vbpr"] * 2
    train = place.ran[-1][1]["train"]
    assert (train["seed"], train["collaborative"], train["multimodal"]) == (5, [], ["vbpr"])
    assert [values["dataset"] for _, values, _ in place.ran] == ["toys"] * 4


def test_other_keys_may_take_each_seed_too(layout: Layout) -> None:
    place = FakePlace()
    run(place, layout, 4, 5, file=VALID.model_copy(update={"seeded": ("train.seed", "noise.seed")}))
    drawn = [(values["train"]["seed"], values["noise"]["seed"]) for _, values, _ in place.ran]
    assert drawn == [(4, 4), (5, 5)] * 2


def test_unknown_key_that_should_take_each_seed_stops_all(layout: Layout) -> None:
    place = FakePlace()
    with pytest.raises(ParamsError, match=r"^p-table1: BPR: noise.sed: no such key; did you mean seed"):
        run(place, layout, file=VALID.model_copy(update={"seeded": ("noise.sed",)}))
    assert place.ran == []


def test_what_has_run_does_not_run_again_and_nothing_is_prepared(layout: Layout) -> None:
    place = FakePlace()
    first = run(place, layout, 4, 5)
    assert (place.prepared, len(place.ran)) == (1, 4)
    assert run(place, layout, 4, 5) == first
    assert (place.prepared, len(place.ran)) == (1, 4)


def test_only_what_is_missing_runs_after_an_interruption(layout: Layout) -> None:
    place = FakePlace()
    run(place, layout, 4)
    run(place, layout, 4, 5)
    assert len(place.ran) == 4


def test_an_experiment_whose_metrics_are_gone_runs_again(layout: Layout) -> None:
    place = FakePlace()
    first = run(place, layout)
    place.lost = {place.ran[0][0]}
    assert run(place, layout) == first
    assert len(place.ran) == 3


def test_one_that_fails_says_why_and_stops_no_other(layout: Layout) -> None:
    bpr, vbpr, micro = run(FakePlace(broken="@bpr"), layout, 1, 2)
    assert (bpr.failed, bpr.runs) == ("loss is not finite", ())
    assert [each["recall@20"] for each in vbpr.runs] == [0.01, 0.02]
    assert (micro.failed, micro.runs) == ("", ())


def test_one_seed_that_fails_leaves_no_mean_of_the_others(layout: Layout) -> None:
    bpr, *_ = run(FakePlace(broken="-s2-"), layout, 1, 2)
    assert (bpr.failed, bpr.runs) == ("loss is not finite", ())


def test_wrong_parameters_of_any_row_stop_all_before_anything_runs(layout: Layout) -> None:
    place = FakePlace()
    with pytest.raises(ParamsError, match=r"^p-table1: VBPR, k = 1: this row: recommenders.vbpr.layers: no such key"):
        run(place, layout, file=FILE)
    assert place.ran == []


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such dataset folder"):
        run(FakePlace(), Layout(tmp_path, "toys"))


def test_the_table_has_mean_and_deviation_and_the_published_numbers(layout: Layout) -> None:
    table = lines(VALID, run(FakePlace(), layout, 2, 4), "toys", None)
    shown = [(line.label, line.dataset, line.published, line.seeds, line.remark) for line in table]
    assert shown == [
        ("BPR", "toys", False, 2, ""),
        ("BPR", "baby", True, 0, ""),
        ("BPR", "sports", True, 0, ""),
        ("VBPR, k = 1", "toys", False, 2, ""),
        ("MICRO", "toys", False, 0, "not built"),
        ("MICRO", "baby", True, 0, ""),
    ]
    assert table[0].means == pytest.approx((mean([0.02, 0.04]), mean([0.01, 0.02])))
    assert table[0].deviations == pytest.approx((stdev([0.02, 0.04]), stdev([0.01, 0.02])))
    assert table[2].means == (0.1, None)


def test_what_training_takes_is_a_metric_too(layout: Layout) -> None:
    file = VALID.model_copy(update={"metrics": ("recall@20", "epoch_seconds", "peak_memory_mb")})
    place = FakePlace()
    results = run(place, layout, 2, 4, file=file)
    assert lines(file, results, "toys", None)[0].means == pytest.approx((0.03, 3, 3000))
    assert run(place, layout, 2, 4, file=file) == results
    assert len(place.ran) == 4


def test_what_a_cached_training_took_is_not_that_of_another(layout: Layout) -> None:
    file = VALID.model_copy(update={"metrics": ("recall@20", "epoch_seconds")})
    place = FakePlace(cached=True, left=b'{"epoch_seconds": 99}')
    (line, *_) = lines(file, run(place, layout, 2, 4, file=file), "toys", None)
    assert (line.means, line.deviations[1]) == ((pytest.approx(0.03), None), None)


def test_a_damaged_cost_is_named(layout: Layout) -> None:
    place = FakePlace()
    run(place, layout)
    path = next((layout.root / "experiments").rglob("costs/*.json"))
    path.write_text("[")
    with pytest.raises(DataError, match=r"costs/\w+\.json: damaged .*; remove it"):
        run(place, layout)


def test_a_dataset_like_one_of_the_papers_has_its_numbers_alone(layout: Layout) -> None:
    table = lines(VALID, run(FakePlace(), layout), "toys", "baby")
    assert [line.dataset for line in table if line.published] == ["baby", "baby"]


def test_notes_tell_random_weights_doubts_and_single_seeds(layout: Layout) -> None:
    caution = "vgg16 has random weights (seed 3): its features carry no learned meaning"
    seeds = "one seed: small differences are noise, give --seeds 3"
    split = "split of our numbers: mmrec, seed 0"
    assert notes(VALID, run(FakePlace(), layout)) == [split, caution, seeds, "all are toys", "MICRO: not ours"]
    assert seeds not in notes(VALID, run(FakePlace(), layout, 1, 2))


def test_notes_tell_pieces_of_vectors(layout: Layout) -> None:
    row = VALID.rows[1].model_copy(
        update={
            "recommender": "mdr_chca",
            "set": {
                "train.patches": "vgg16",
                "train.text_tokens": "minilm",
                "graphs.intra_item.encoders": ["vgg16", "minilm"],
                "graphs.intra_item.pseudo_tokens": True,
            },
        }
    )
    told = notes(VALID, run(FakePlace(), layout, file=VALID.model_copy(update={"rows": (row,)})))
    assert told[2] == (
        "mdr_chca read pieces of the vectors of vgg16 and minilm for patches or tokens: a trial, not the model"
    )


def test_the_split_is_that_of_each_row(layout: Layout) -> None:
    given = VALID.rows[0].model_copy(update={"set": {"split.rule": "given"}})
    drawn = VALID.rows[1].model_copy(update={"set": {"split.rule": "ratio", "split.seed": 7}})
    file = VALID.model_copy(update={"rows": (given, drawn, VALID.rows[2])})
    results = run(FakePlace(), layout, file=file)
    assert [result.split for result in results] == ["given", "ratio, seed 7", ""]
    assert notes(file, results)[0] == "split of our numbers: given; ratio, seed 7"
    results = run(FakePlace(), layout, 1, 2, file=file.model_copy(update={"seeded": ("train.seed", "split.seed")}))
    assert notes(file, results)[0] == "split of our numbers: given; ratio, one seed per run"


def test_the_csv_has_a_row_a_line_and_a_deviation_a_metric(layout: Layout) -> None:
    path = layout.experiment("p-table1").table
    write_table(VALID, lines(VALID, run(FakePlace(), layout, 1), "toys", "baby"), path)
    assert path.read_text().splitlines() == [
        "row,x,numbers,dataset,split,seeds,recall@20,recall@20_std,ndcg@20,ndcg@20_std,remark",
        'BPR,,ours,toys,"mmrec, seed 0",1,0.01,,0.005,,',
        "BPR,,published,baby,,,0.05,,0.02,,",
        '"VBPR, k = 1",,ours,toys,"mmrec, seed 0",1,0.01,,0.005,,',
        "MICRO,,ours,toys,,,,,,,not built",
        "MICRO,,published,baby,,,0.08,,0.04,,",
    ]


@pytest.mark.parametrize(
    ("label", "name"),
    [("DA-MRS + MF", "da-mrs-mf"), ("AM2HRec (-2H)", "am2hrec-2h"), ("k 1..2", "k-1.2"), ("β", "row"), ("-", "row")],
)
def test_a_label_becomes_a_name_that_git_takes(label: str, name: str) -> None:
    assert slug(label) == name
