from pathlib import Path

from mmprep.models.encoders.catalogue import DESCRIPTIONS
from mmprep.models.encoders.params import describe, parse_encoder
from mmprep.models.encoders.text_templates import PRESETS
from mmprep.pipeline.params import read_yaml

DOCS = (Path(__file__).parents[3] / "docs" / "encoders.md").read_text(encoding="utf-8")
UNIT = {"vector": "", "patches": " a patch", "tokens": " a token"}


def table(header: str) -> list[list[str]]:
    """The cells of the table below a header."""
    lines = DOCS.split(header, maxsplit=1)[1].splitlines()[2:]
    rows = lines[: next((at for at, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_table_of_encoders_is_the_catalogue() -> None:
    expected = [
        [row.name, f"{row.dimension}{UNIT[row.form]}", row.output, row.input, row.published_weights, row.licence]
        for row in DESCRIPTIONS
    ]
    assert table("| encoder | gives |") == expected


def test_every_encoder_has_its_cost_of_bf16_within_what_is_promised() -> None:
    rows = table("| encoder | least |")
    assert {row[0] for row in rows} == {row.name for row in DESCRIPTIONS}
    assert all(0.999 < float(least) <= float(mean) < 1 for _, least, mean, _ in rows)


def test_table_of_templates_is_what_they_are() -> None:
    rows = {name.strip("`"): text for name, text in table("| template | is |")}
    assert all(f"`{pattern}`" in rows[name] for name, pattern in PRESETS.items())


def test_example_of_models_by_name_is_valid(tmp_path: Path) -> None:
    example = DOCS.split("```yaml\n", maxsplit=1)[1].split("```", maxsplit=1)[0]
    (tmp_path / "params.yaml").write_text(example)
    sections = read_yaml(tmp_path / "params.yaml")["encoders"]
    found = {name: describe(name, parse_encoder(name, values, "example")) for name, values in sections.items()}
    assert {name: (row.library, row.form) for name, row in found.items()} == {
        "dinov2": ("timm", "vector"),
        "regions": ("timm", "patches"),
        "e5": ("sentence-transformers", "vector"),
        "words": ("sentence-transformers", "tokens"),
    }
