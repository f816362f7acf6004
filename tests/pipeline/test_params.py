"""Reading params.yaml: what is accepted, and the one line that each mistake gives."""

import re
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.params import Params, parse_section, read_yaml, suggestion


class Graph(Params):
    neighbours: Annotated[int, Field(ge=1)] = 10
    include_self: bool = True


class File(Params):
    dataset: str
    limit: Annotated[float, Field(ge=0, le=1)] = 0.05
    rule: Literal["mmrec", "lattice"] = "mmrec"
    encoders: tuple[str, ...] = ("vgg16",)
    graph: Graph = Graph()


def parse(folder: Path, text: str) -> File:
    path = folder / "p.yaml"
    path.write_text(text)
    return parse_section(File, read_yaml(path), "", "p.yaml")


def test_values_of_the_right_type_are_taken(tmp_path: Path) -> None:
    found = parse(tmp_path, "dataset: toys\nlimit: 1\nencoders: [a, b]\ngraph: {neighbours: 3, include_self: false}\n")
    assert found == File(dataset="toys", limit=1.0, encoders=("a", "b"), graph=Graph(neighbours=3, include_self=False))


def test_numbers_without_a_point_and_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    assert parse(tmp_path, "dataset: toys\nlimit: 1e-3").limit == 0.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limt: 1", "limt: no such key; did you mean limit? (allowed: dataset, limit, rule, encoders, graph)"),
        ("zzz: 1", "zzz: no such key (allowed: dataset, limit, rule, encoders, graph)"),
        (
            "graph: {neighbors: 1}",
            "graph.neighbors: no such key; did you mean neighbours? (allowed: neighbours, include_self)",
        ),
        ("graph: {neighbours: ten}", 'graph.neighbours: found "ten", expected a valid integer'),
        ("graph: {neighbours: 10.5}", "graph.neighbours: found 10.5, expected a valid integer"),
        ("graph: {neighbours: '10'}", 'graph.neighbours: found "10", expected a valid integer'),
        ("graph: {neighbours: true}", "graph.neighbours: found true, expected a valid integer"),
        ("graph: {neighbours: 0}", "graph.neighbours: found 0, expected greater than or equal to 1"),
        ("graph: {include_self: yes}", 'graph.include_self: found "yes", expected a valid boolean'),
        ("graph: {include_self: 1}", "graph.include_self: found 1, expected a valid boolean"),
        ("limit: 2", "limit: found 2, expected less than or equal to 1"),
        ("limit: .nan", "limit: found NaN, expected a finite number"),
        ("limit: .inf", "limit: found Infinity, expected a finite number"),
        ("limit: 1e999", "limit: found Infinity, expected a finite number"),
        ("limit:", "limit: found null, expected a valid number"),
        ("rule: random", "rule: found \"random\", expected 'mmrec' or 'lattice'"),
        ("encoders: vgg16", 'encoders: found "vgg16", expected a valid array'),
        ("encoders: [vgg16, 3]", "encoders.1: found 3, expected a valid string"),
        ("graph:", "graph: found null, expected an object"),
    ],
)
def test_a_mistake_gives_one_line_with_key_finding_and_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse(tmp_path, f"dataset: toys\n{text}\n")
    assert str(caught.value) == f"p.yaml: {message}"


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        parse(tmp_path, "limit: 0.5")
    assert str(caught.value) == "p.yaml: dataset: missing; it must be given"


def test_each_of_several_mistakes_has_a_line(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        parse(tmp_path, "limit: 2\ngraph: {k: 1, neighbours: 0}")
    assert str(caught.value).splitlines() == [
        "p.yaml: dataset: missing; it must be given",
        "p.yaml: limit: found 2, expected less than or equal to 1",
        "p.yaml: graph.neighbours: found 0, expected greater than or equal to 1",
        "p.yaml: graph.k: no such key (allowed: neighbours, include_self)",
    ]


def test_a_section_is_named_by_its_key() -> None:
    with pytest.raises(ParamsError) as caught:
        parse_section(Graph, {"neighbours": -1}, "graphs.knn", "p.yaml")
    assert str(caught.value) == "p.yaml: graphs.knn.neighbours: found -1, expected greater than or equal to 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n b: 2", "line 2: mapping values are not allowed here"),
        ("a: 1\na: 2", 'line 2: found duplicate key "a" with value "2" (original value: "1")'),
        ("a: 1\n---\nb: 1", "line 2: but found another document"),
        ("a: !thing 1", "line 1: could not determine a constructor for the tag '!thing'"),
        ("- 1\n- 2", "found list, expected a mapping of sections"),
        ("just text", "found str, expected a mapping of sections"),
        ("", "found NoneType, expected a mapping of sections"),
        ("# nothing", "found NoneType, expected a mapping of sections"),
        ("a: \x01", "not YAML: unacceptable character #x0001: special characters are not allowed"),
        ("a: 2020-13-45", "not YAML: month must be in 1..12"),
        ("a: !!bool maybe", "not YAML: 'maybe'"),
        ("a: !!int few", "not YAML: invalid literal for int() with base 10: 'few'"),
        ("a: " + "[" * 1200, "not YAML: maximum recursion depth exceeded"),
    ],
)
def test_what_is_not_a_yaml_mapping_gives_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"a: \xff\xff\xff", b"\x80"])
def test_bytes_that_are_not_text_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(raw)
    with pytest.raises(ParamsError, match="not YAML"):
        read_yaml(path)


def test_a_missing_file_is_named_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        read_yaml(tmp_path / "nope.yaml")
    assert str(caught.value) == f"{tmp_path}/nope.yaml: no such parameter file; give one with --params FILE"


def test_a_folder_is_no_parameter_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such parameter file"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    "text", ["dataset: toys\n2020-01-01: 1", "dataset: toys\n? [a, b]\n: 1", "&me\ndataset: *me", "dataset: &me [*me]"]
)
def test_yaml_that_no_json_can_say_gives_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse(tmp_path, text)
    assert re.match(r"(\S*/)?p\.yaml: ", str(caught.value))
    assert "\n" not in str(caught.value)


YAML_TEXT = st.text(st.sampled_from("ab:1.-[]{}&*!?|>'\"\n #,~<=0eT%@`_x"), max_size=30)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=YAML_TEXT)
@example("a: !!float x")
@example("2020-02-30: 1")
def test_no_text_gives_anything_but_a_mapping_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        parse(folder, text)
    except ParamsError as error:
        assert all(line.startswith(("p.yaml: ", f"{folder}/p.yaml: ")) for line in str(error).split("\n"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(key=st.sampled_from([*File.model_fields, "other"]), value=VALUES)
def test_no_value_gives_anything_but_parameters_or_a_line(key: str, value: object) -> None:
    try:
        parse_section(File, {"dataset": "toys", key: value}, "", "p.yaml")
    except ParamsError as error:
        assert f"p.yaml: {key}" in str(error)


@pytest.mark.parametrize("key", ["limit", "graph"])
def test_parameters_are_frozen(key: str) -> None:
    parameters = File(dataset="toys")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(parameters, key, getattr(parameters, key))
    with pytest.raises(ValidationError, match="frozen"):
        parameters.graph.neighbours = 3


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"minilm": 1, "vgg16": 2}, "; did you mean vgg16? (allowed: minilm, vgg16)"),
        (["minilm"], " (allowed: minilm)"),
        ([], ""),
    ],
)
def test_suggestion_lists_what_is_allowed(known: Any, expected: str) -> None:  # noqa: ANN401
    assert suggestion("vgg19", known) == expected


def laughs(levels: int) -> str:
    """A file in which aliases stand for ten to the power of `levels` values."""
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *lines]) + "\n"


def merges(levels: int) -> str:
    """The same by merge keys."""
    lines = [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, levels)]
    return "\n".join(["a0: &a0 {x: 1}", *lines]) + "\n"


@pytest.mark.parametrize("text", [laughs(9), laughs(30), merges(9), merges(30)])
def test_aliases_of_aliases_are_bounded(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    start = time.monotonic()
    with pytest.raises(ParamsError, match="more than 100000 values with aliases"):
        read_yaml(path)
    assert time.monotonic() - start < 5


def test_aliases_that_stand_for_few_values_are_expanded(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


def test_an_alias_of_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: &a [*a]\n")
    with pytest.raises(ParamsError, match="stands for a value that contains it"):
        read_yaml(path)


class Anything(Params):
    """A section of any values."""

    value: Any


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (99999999999999999999, "found a number of 67 bits, expected at most 63"),
        (-(2**63) - 1, "found a number of 64 bits, expected at most 63"),
        (10**4000, "found a number of 13288 bits"),
        ("a\0b", "expected text without NUL and surrogates"),
        ("\ud800", "expected text without NUL and surrogates"),
        ([1, {"inner": 2**63}], "file: part.value.1.inner: found a number of 64 bits"),
    ],
)
def test_values_that_no_library_takes_are_refused(value: object, message: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        parse_section(Anything, {"value": value}, "part", "file")
    assert parse_section(Anything, {"value": [2**63 - 1, -(2**63), "é"]}, "part", "file")
