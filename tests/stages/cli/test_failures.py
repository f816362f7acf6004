"""Errors of the user's or the system's making are one line; those of mmprep keep their traceback."""

import errno
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from logs import loggers_as_they_were

from mmprep.models.training.checkpoint import write_tensors
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import atomic_file, atomic_folder
from mmprep.pipeline.storage.open_store import open_store
from mmprep.stages.cli.failures import explain
from mmprep.stages.cli.main import main

MMPREP = Path(sysconfig.get_path("scripts")) / "mmprep"


def shell(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which `mmprep` is this installation's."""
    environ = {**os.environ, "PATH": f"{MMPREP.parent}{os.pathsep}{os.environ['PATH']}", **variables}
    return subprocess.run(["sh", "-c", command], cwd=folder, env=environ, capture_output=True, text=True, check=False)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("x: damaged"), "x: damaged"),
        (OSError(errno.ENOSPC, "No space left on device", "data/x"), "[Errno 28] No space left on device: 'data/x'"),
        (OSError(), "OSError"),
        (MemoryError(), "out of memory (MemoryError); lower the sizes"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 24"), "out of memory (DefaultCPUAllocator"),
        (RuntimeError("Storage size calculation overflowed with sizes=[60]"), "out of memory (Storage size"),
        (RuntimeError("can't start new thread"), "the system starts no more threads (can't start new thread)"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates"), "found 'a\\udcff', which is not UTF-8"),
    ],
)
def test_errors_of_the_system_are_explained(error: Exception, message: str) -> None:
    assert (explain(raised(error)) or "").startswith(message)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        RuntimeError("index out of range"),
        TypeError("memory"),
        UnicodeEncodeError("ascii", "é", 0, 1, ""),
    ],
)
def test_errors_of_mmprep_are_not_explained(error: Exception) -> None:
    assert explain(raised(error)) is None


def test_a_fault_of_mmprep_keeps_its_traceback_and_asks_for_a_report(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("nothing")

    assert not list(in_folder.iterdir())
    monkeypatch.setattr("mmprep.pipeline.cache.row_cache.cache_place", broken)
    with loggers_as_they_were():
        result = CliRunner().invoke(main, ["cache", "stats"])
    *trace, last = result.stderr.splitlines()
    assert result.exit_code == 1
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "KeyError: 'nothing'"
    assert last.startswith("error: KeyError in mmprep: a fault of mmprep, not of your input; please report it with the")


def test_output_that_is_not_utf_8_takes_any_text(in_folder: Path) -> None:
    (in_folder / "show.py").write_text(
        "from mmprep.stages.cli.console import new_table, print_table\n"
        "from mmprep.stages.cli.main import main\n"
        "main.command('show')(lambda: print_table(new_table('größe €')))\n"
        "main(['show'])\n",
        encoding="utf-8",
    )
    ran = shell("python show.py", in_folder, PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "gr\\xf6\\xdfe \\u20ac" in ran.stdout


def test_a_closed_output_gives_one_line(in_folder: Path) -> None:
    ran = shell("mmprep recommenders >&-", in_folder)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "error: standard output: closed, expected a terminal, a file or a pipe; redirect it, such as >/dev/null\n"
    )


def test_with_all_streams_closed_no_file_of_data_takes_their_place(in_folder: Path) -> None:
    ran = shell("mmprep sample x --users 60 --items 40 --reviews 800 <&- 2>&-", in_folder)
    assert ran.returncode == 0, ran.stdout
    assert shell("mmprep recommenders nothing <&- >&- 2>&-", in_folder).returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
@pytest.mark.parametrize("command", ["recommenders", "graphs", "recommenders bpr", "--help"])
def test_a_full_output_gives_one_line(in_folder: Path, command: str) -> None:
    ran = shell(f"mmprep {command} >/dev/full", in_folder)
    assert (ran.returncode, ran.stderr) == (1, "error: [Errno 28] No space left on device: 'standard output'\n")


@pytest.mark.parametrize("command", ["recommenders", "recommenders da_mrs", "--help"])
def test_a_pipe_that_is_closed_is_no_error(in_folder: Path, command: str) -> None:
    assert shell(f"mmprep {command} | true", in_folder).stderr == ""
    assert shell(f"mmprep {command} | head -c 1", in_folder).stderr == ""


@pytest.mark.parametrize(
    "arguments",
    ["inspect LONG", "sample LONG", "ingest --dataset LONG", "ingest --params LONG", "verify --data LONG"],
)
def test_a_name_that_is_too_long_is_named(in_folder: Path, arguments: str) -> None:
    (in_folder / "params.yaml").write_text("dataset: toys\n")
    name = "a" * 300
    with loggers_as_they_were():
        result = CliRunner().invoke(main, arguments.replace("LONG", name).split())
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert name in result.stderr


def test_a_home_folder_of_no_user_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"^MMPREP_CACHE: found '~nosuchuser/x', expected the home folder of a user"):
        open_store("~nosuchuser/x")


def test_a_negative_seed_of_a_sample_is_refused(in_folder: Path) -> None:
    for option in ("--seed", "--users", "--items", "--reviews"):
        result = CliRunner().invoke(main, ["sample", "x", option, "-1"])
        assert result.exit_code == 2
        assert f"Error: Invalid value for '{option}': -1 is not in the range" in result.stderr
    assert not list(in_folder.iterdir())


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_an_error_of_writing_names_the_file(tmp_path: Path) -> None:
    for path, writing in ((tmp_path / "file", atomic_file), (tmp_path / "folder", atomic_folder)):
        with pytest.raises(OSError, match=rf"No space left on device: '{path}'"), writing(path):
            raise OSError(*FULL.args)
        with pytest.raises(OSError, match=rf"^{path}: 8 requested and 0 written"), writing(path):
            raise OSError("8 requested and 0 written")
    assert not list(tmp_path.iterdir())


def limited(command: str, folder: Path, blocks: int) -> subprocess.CompletedProcess[str]:
    """Run a command that can write no file of more than this many blocks of 512 bytes."""
    return shell(f"trap '' XFSZ; ulimit -f {blocks}; {command}", folder)


def test_a_checkpoint_that_finds_no_space_names_its_file(tmp_path: Path) -> None:
    code = "from test_failures import write_large; write_large()"
    ran = limited(f'python -c "import sys; sys.path[:0] = sys.argv[1:]; {code}" {" ".join(folders())}', tmp_path, 64)
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("OSError: checkpoint.safetensors: cannot be written ("), ran.stderr
    assert not list(tmp_path.iterdir())


def folders() -> list[str]:
    return [str(Path(__file__).parent), str(Path(__file__).parents[2])]


def write_large() -> None:
    """Write more than the limit of `limited`."""
    write_tensors(Path("checkpoint.safetensors"), {"a": torch.ones(1_000_000)})


def test_a_stage_that_finds_no_space_names_its_file(in_folder: Path) -> None:
    (in_folder / "params.yaml").write_text("dataset: toys\ningest: {max_reject_fraction: 0.2}\n")
    assert shell("mmprep sample data/raw/toys --users 60 --items 40 --reviews 800", in_folder).returncode == 0
    ran = limited("mmprep ingest", in_folder, 4)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("error: [Errno 27] ")
    assert f"'{Layout(Path('data'), 'toys').rejects}'" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not Layout(Path("data"), "toys").raw_interactions.exists()
