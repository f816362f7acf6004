"""Verb `code`: digests of the modules that each stage imports, so that DVC re-runs a stage only if one changes.

Each stage of dvc.yaml depends on one file below data/code, which lists the SHA-256 of every module in the stage's
import closure. A module loaded by name, such as a recommender's, is in the closure of the stage that loads it alone.
"""

import ast
import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

import mmprep
from mmprep.models.encoders.catalogue import CATALOGUE as ENCODERS
from mmprep.models.encoders.catalogue import EncoderDescription, encoder_class, network_module
from mmprep.models.recommenders.catalogue import CATALOGUE as RECOMMENDERS
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.catalogue import CATALOGUE as GRAPHS
from mmprep.pipeline.storage.files import atomic_folder
from mmprep.stages.config.parameters import Parameters
from mmprep.stages.extract.extract import EXTERNAL, TEXT_LENGTHS
from mmprep.stages.graphs.graph import builder_module
from mmprep.stages.training.input_readers import readers

PACKAGE, FLOORS = "mmprep", ("pipeline", "models", "stages")
INSTALLED = Path(mmprep.__path__[0])
STAGES = {
    "parameters": "mmprep.stages.config.effective",
    "ingest": "mmprep.stages.ingest.ingest",
    "filter": "mmprep.stages.prepare.filter",
    "split": "mmprep.stages.prepare.split",
    "extract": "mmprep.stages.extract.extract",
    "graph": "mmprep.stages.graphs.graph",
    "homophily": "mmprep.stages.graphs.homophily",
    "modalities": "mmprep.stages.training.modalities",
    "train": "mmprep.stages.training.train",
    "evaluate": "mmprep.stages.training.evaluate",
}
"""Entry module of each stage. The command line is left out: it only parses, calls and prints."""


def run(root: Path, parameters: Parameters, package: Path = INSTALLED) -> dict[str, Any]:
    """Write data/code: one file per stage, or a folder with one file per item of a stage's matrix.

    Args:
        root: the data folder.
        parameters: their encoders get files in addition to those of the catalogue.
        package: the folder of the package mmprep.

    Returns:
        The metrics.
    """
    tree = SourceTree(package)
    listings = {key: tree.listing(modules) for key, modules in entry_modules(parameters).items()}
    with atomic_folder(root / "code") as folder:
        for key, text in listings.items():
            path = folder / f"{key}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")
    return {"stages": len(listings), "modules": len(tree.paths)}


def entry_modules(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    """Entry modules of each stage or item of its matrix: the stage's own module and those loaded by name.

    Keys are paths below data/code without suffix, such as `ingest` or `train/lightgcn`.
    """
    entries: dict[str, tuple[str, ...]] = {}
    # Presets lie in the recommenders' classes.
    entries["parameters"] = (STAGES["parameters"], *(recommender.module for recommender in RECOMMENDERS.values()))
    for stage in ("ingest", "filter", "split", "modalities", "homophily", "evaluate"):
        entries[stage] = (STAGES[stage],)
    for name in sorted({*ENCODERS, *parameters.encoders}):
        entries[f"extract/{name}"] = (STAGES["extract"], *extractor_modules(parameters.describe_encoder(name)))
    for kind in GRAPHS:
        entries[f"graph/{kind}"] = (STAGES["graph"], builder_module(kind))
    for name, recommender in RECOMMENDERS.items():
        entries[f"train/{name}"] = (STAGES["train"], recommender.module, *readers(recommender).values())
    return entries


def extractor_modules(description: EncoderDescription) -> tuple[str, ...]:
    """Modules that extraction loads by name for an encoder."""
    if description.library == "file":
        return (EXTERNAL,)
    texts = (TEXT_LENGTHS,) if description.modality == "text" else ()
    return encoder_class(description)[0], network_module(description), *texts


def require_current(root: Path, key: str, parameters: Parameters, environment: Mapping[str, str] = os.environ) -> None:
    """Under DVC, check that the running code matches the digests in data/code.

    `dvc repro --single-item` would otherwise record the outputs of new code as those of old code.

    Args:
        root: the data folder.
        key: the stage's key in `entry_modules`.
        parameters: the command's parameters.
        environment: environment variables; DVC sets DVC_STAGE.

    Raises:
        DataError: a module has changed; the message names it.
    """
    path = root / "code" / f"{key}.txt"
    if "DVC_STAGE" not in environment or not path.exists():
        return
    now = SourceTree(INSTALLED).listing(entry_modules(parameters)[key]).splitlines()
    recorded = path.read_text("ascii").splitlines()
    if now != recorded:
        changed = sorted({line.split()[-1] for line in set(now) ^ set(recorded)})
        raise DataError(f"{path}: {', '.join(changed)} changed since it was written; run `dvc repro code` first")


class SourceTree:
    """Import graph of a package's modules, parsed from their sources without importing them.

    Attributes:
        paths: the file of each module, by dotted name; `__init__.py` files hold only a docstring and are left out.
    """

    def __init__(self, folder: Path) -> None:
        """Find the modules of the package mmprep in `folder`; floors may be symbolic links."""
        self.paths = {
            ".".join((PACKAGE, *path.relative_to(folder).with_suffix("").parts)): path
            for floor in FLOORS
            for path in sorted((folder / floor).rglob("*.py"))
            if path.name != "__init__.py"
        }
        self._read = cache(self._read_module)

    def listing(self, modules: Iterable[str]) -> str:
        """The import closure of modules as text: one line of SHA-256 and name per module."""
        return "".join(f"{self._read(module)[0]}  {module}\n" for module in sorted(self.closure(modules)))

    def closure(self, modules: Iterable[str]) -> set[str]:
        """The given modules and all modules that they import, directly or transitively."""
        reached: set[str] = set()
        pending = set(modules)
        while pending:
            module = pending.pop()
            reached.add(module)
            pending |= self._read(module)[1] - reached
        return reached

    def _read_module(self, module: str) -> tuple[str, frozenset[str]]:
        """The SHA-256 of a module's source, with line ends normalised, and the modules it imports."""
        source = self.paths[module].read_text(encoding="utf-8")
        return hashlib.sha256(source.encode()).hexdigest(), frozenset(imported_names(source) & self.paths.keys())


def imported_names(source: str) -> set[str]:
    """Dotted names that a module imports at run time, also inside functions; imports for type checking are skipped."""
    tree = ast.parse(source)
    type_checking = [node for node in ast.walk(tree) if is_for_types_alone(node)]
    hidden = {id(inner) for node in type_checking for statement in node.body for inner in ast.walk(statement)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def is_for_types_alone(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether a statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
