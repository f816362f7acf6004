"""The wheel, installed beside a user's own folder `models`: imports, commands, and what wheel and sdist hold."""

import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from checkout import check_out, run
from imports import FLOORS, ROOT

BUILD = "from setuptools import build_meta as b; print(b.build_wheel('dist'), b.build_sdist('dist'))"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist of the working tree, built by the backend that pip calls."""
    checkout = check_out(tmp_path_factory.mktemp("wheel") / "mmprep")
    run(checkout, sys.executable, "-c", BUILD)
    return checkout / "dist"


class Installed:
    """A virtual environment that holds the wheel and reads its dependencies from the one that runs the tests.

    Attributes:
        site_packages: its own.
        folder: a user's, with a package `models`.
    """

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.folder = folder / "project"
        self._bin = folder / "venv" / "bin"
        venv.create(folder / "venv", with_pip=False)
        self.site_packages = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
        # Folders that a .pth file names are searched without their own .pth files, so that no editable install counts.
        lines = [path for path in sys.path if path.endswith("site-packages")]
        (self.site_packages / "dependencies.pth").write_text("\n".join(lines))
        pip = (sys.executable, "-m", "pip", "--python", str(self._bin / "python"))
        run(folder, *pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel))
        (self.folder / "models").mkdir(parents=True)
        (self.folder / "models" / "__init__.py").write_text("OWNER = 'user'\n")

    def run(self, command: str, *arguments: str) -> str:
        """Run a command of the environment in the user's folder; what it printed."""
        return run(self.folder, "env", "-u", "PYTHONPATH", str(self._bin / command), *arguments)


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(next(built.glob("*.whl")), tmp_path_factory.mktemp("user"))


def test_wheel_and_sdist_hold_all_files_of_the_floors_and_nothing_else_of_the_repository(built: Path) -> None:
    files = run(built.parent, "git", "ls-files", *FLOORS).splitlines()
    expected = {f"mmprep/{name}" for name in files if not name.endswith("/README.md")}
    assert any(name.endswith(".html") for name in expected)
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        in_wheel = [name for name in wheel.namelist() if not name.startswith("mmprep-")]
    assert {*in_wheel} == expected | {"mmprep/__init__.py", "mmprep/py.typed"}
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        # Behind the folder `mmprep-0.1.0`, without what setuptools makes.
        in_sdist = [member.name.partition("/")[2] for member in sdist if member.isfile()]
    others = {name for name in in_sdist if ".egg-info/" not in name} - {*in_wheel}
    assert others == {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    assert {*in_wheel} <= {*in_sdist}


def test_package_and_a_folder_of_the_user_with_the_name_of_a_floor_work_side_by_side(installed: Installed) -> None:
    code = "import mmprep.models.training.params as ours, models; print(ours.__file__, models.__file__, models.OWNER)"
    ours, theirs, owner = installed.run("python", "-c", code).split()
    assert Path(ours) == installed.site_packages / "mmprep" / "models" / "training" / "params.py"
    assert Path(theirs) == installed.folder / "models" / "__init__.py"
    assert owner == "user"


def test_command_of_the_wheel_ingests_a_sample(installed: Installed) -> None:
    assert "ingest" in installed.run("mmprep", "--help")
    installed.run("mmprep", *["sample", "data/raw/tiny", "--users", "60", "--items", "40", "--reviews", "800"])
    params = (ROOT / "params.yaml").read_text().replace("dataset: sample", "dataset: tiny")
    (installed.folder / "params.yaml").write_text(
        params.replace("max_reject_fraction: 0.05", "max_reject_fraction: 0.1")
    )
    installed.run("mmprep", "ingest")
    for name in ("interactions", "items", "rejects"):
        assert (installed.folder / "data" / "interim" / "tiny" / f"{name}.parquet").is_file()
