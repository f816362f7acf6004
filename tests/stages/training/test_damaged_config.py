"""A damaged config.json at every door that reads a run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from configs import DAMAGES
from trainable import PARAMS, params_of, write_trainable
from worlds import one_thread

from mmprep.models.training.params import EvaluateParams
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout, RunLayout
from mmprep.pipeline.storage.files import remove
from mmprep.stages.explore import denoise, recommend, report, tsne
from mmprep.stages.maintenance import verify
from mmprep.stages.training import evaluate, search, seeds, train

SHORT = PARAMS.model_copy(update={"max_epochs": 1})
PLAIN = EvaluateParams()


def train_seeds(layout: Layout) -> None:
    seeds.run("lightgcn", (0, 1), SHORT, params_of("lightgcn"), PLAIN, layout)


def run_search(layout: Layout) -> None:
    search.run("lightgcn", {"layers": [1, 2]}, SHORT, params_of("lightgcn"), PLAIN, layout)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """A toy dataset on which da_mrs is trained and evaluated, and lightgcn by seeds and by a search."""
    with one_thread():
        layout = Layout(tmp_path_factory.mktemp("damaged") / "data", "toy")
        write_trainable(layout, ["da_mrs", "lightgcn"])
        train.run("da_mrs", SHORT, params_of("da_mrs"), layout)
        evaluate.run("da_mrs", PLAIN, layout)
        train_seeds(layout)
        run_search(layout)
        yield layout


@pytest.fixture(params=DAMAGES)
def message(layout: Layout, request: pytest.FixtureRequest) -> Iterator[str]:
    """What readers say of the config of da_mrs, which is damaged as long as the test runs."""
    config = layout.run("da_mrs").config
    whole = config.read_bytes()
    damage, reason = DAMAGES[request.param]
    damage(config)
    yield f"{config}: not what training wrote ({reason}); run `mmprep train --recommender da_mrs` again"
    remove(config)
    config.write_bytes(whole)


DOORS: dict[str, Callable[[Layout], object]] = {
    "evaluate": lambda layout: evaluate.run("da_mrs", PLAIN, layout),
    "report": report.collect,
    "denoise": denoise.run,
    "tsne": lambda layout: tsne.run(layout, "da_mrs"),
}


@pytest.mark.parametrize("door", DOORS)
def test_commands_that_need_it_refuse_it_in_the_same_line(
    layout: Layout, message: str, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "warnings_for", lambda _: [])  # toy features do not tell their encoder
    with pytest.raises(DataError) as caught:
        DOORS[door](layout)
    assert str(caught.value) == message


def test_verify_says_the_same_of_the_run(layout: Layout, message: str) -> None:
    folder = layout.run("da_mrs").folder
    finding = next(each for each in verify.run(layout) if each.path == folder)
    assert (finding.state, finding.fault) == ("damaged", message.removeprefix(f"{folder}/"))


@pytest.mark.parametrize("name", [None, "da_mrs"])
def test_lists_tell_themselves_what_made_them_and_are_shown(layout: Layout, message: str, name: str | None) -> None:
    assert message
    assert len(recommend.find(layout, name, "u0", 5).recommended) == 5


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folder of every training that begins."""
    folders: list[Path] = []
    before = train.Training.run

    def watched(self: train.Training, files: RunLayout, *rest: object) -> dict[str, object]:
        folders.append(files.folder)
        return before(self, files, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(train.Training, "run", watched)
    return folders


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if kind != "a folder"])  # over which no file is renamed
@pytest.mark.parametrize("many", [train_seeds, run_search])
def test_run_of_many_is_trained_again_and_gives_the_same_bytes(
    layout: Layout, kind: str, trained: list[Path], many: Callable[[Layout], None]
) -> None:
    folder = layout.seeds("lightgcn").folder if many is train_seeds else layout.search("lightgcn").folder
    config = sorted(folder.glob("*/config.json"))[0]
    before = contents(folder)
    DAMAGES[kind][0](config)
    many(layout)
    assert trained == [config.parent]
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file that two runs have alike."""
    return {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "training_cost.json"
    }
