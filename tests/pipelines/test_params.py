"""params.yaml is checked whole, and a refusal names the key, the value and what is allowed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from core.errors import ConfigError
from core.params import parse, read_yaml
from features.registry import FAMILIES
from models.layers.base import LAYERS
from pipelines.inputs import load_serving
from pipelines.params import _KEYS, load_settings, parse_inputs, parse_settings
from pipelines.stage import block_of
from sources.base import PROVIDERS
from sources.calendar import sessions


@pytest.fixture
def values(repository: Path) -> dict:
    return copy.deepcopy(yaml.safe_load((repository / "params.yaml").read_text()))


def test_the_repositorys_params_are_valid(repository: Path) -> None:
    settings = load_settings(repository / "params.yaml")
    assert set(settings.features) == {"market", "fundamental", "text", "behaviour", "crowding", "macro"}
    assert set(settings.layers) == {"linear", "boosting", "sequence", "behaviour"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("sede",), 3, ["sede", "unknown parameter", "seed"]),
        (("universe", "min_prise"), 1.0, ["universe.min_prise", "unknown parameter", "min_price"]),
        (("target", "horizon"), 0, ["target.horizon", "0", "greater than"]),
        (("target", "horizon"), "five", ["target.horizon", "'five'", "integer"]),
        (("data", "source"), "vendor", ["data.source", "'vendor'", "files, simulated"]),
        (("data", "start"), "soon", ["data.start", "'soon'", "YYYY-MM-DD"]),
        (("data", "simulated", "symbols"), -4, ["data.simulated.symbols", "-4"]),
        (("data", "closings"), ["18.12.2017"], ["data.closings.0", "18.12.2017", "YYYY-MM-DD"]),
        (("data", "pth"), "x", ["data.pth", "unknown parameter"]),
        (("features", "families"), ["market", "tea_leaves"], ["tea_leaves", "market"]),
        (("features", "tea_leaves"), {}, ["features.tea_leaves", "unknown", "market"]),
        (("features", "families"), [], ["features.families"]),
        (("layers", "names"), ["boosting", "boosting"], ["layers.names", "twice"]),
        (("layers", "boosting"), {"leaves": 3}, ["layers.boosting.leaves", "unknown parameter", "num_leaves"]),
        (("seed",), "seven", ["seed", "'seven'"]),
        (("universe",), 3, ["universe"]),
    ],
)
def test_a_bad_value_is_named(values: dict, path: tuple[str, ...], value: object, expected: list[str]) -> None:
    here = values
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        parse_settings(values)
    for text in expected:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_section_is_named(values: dict) -> None:
    del values["features"]
    with pytest.raises(ConfigError, match="features is missing"):
        parse_settings(values)


def test_a_bundle_carries_every_default_and_no_folder(values: dict) -> None:
    values["data"] = {"source": "files", "path": "/somewhere/private"}
    del values["target"]["beta_window"]
    told = parse_settings(values).resolved(("seed", "data", "universe", "target", "features", "layers"))
    assert told["target"] == {
        "horizon": 5,
        "auxiliary": [1, 21],
        "beta_window": 252,
        "beta_shrinkage": pytest.approx(1 / 3),
    }
    assert "private" not in str(told)
    again = parse_inputs(json.loads(json.dumps(told)))
    assert [feature.name for feature in again.features] == [f.name for f in parse_settings(values).inputs.features]
    assert again.universe == parse_settings(values).universe


def test_a_data_folder_lies_below_the_checkout(values: dict, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "prices.csv").write_text("symbol\n")
    values["data"] = {"source": "files", "path": "tables"}
    assert parse_settings(values, tmp_path).open_source().tables() == ("prices",)
    values["data"]["path"] = str(tmp_path / "tables")
    assert parse_settings(values, Path("/elsewhere")).open_source().tables() == ("prices",)


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match=r"params\.yaml: 'seed' is written twice"):
        read_yaml(path)


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(path)


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="git checkout"):
        read_yaml(tmp_path / "params.yaml")


def test_embeddings_are_off_and_their_folder_is_no_part_of_a_bundle(values: dict) -> None:
    assert parse_settings(values).data.embeddings is None
    values["data"]["embeddings"] = {"model": "private/model", "digest": "d"}
    settings = parse_settings(values)
    assert settings.resolved(("data",))["data"]["embeddings"] == {"digest": "d"}
    with pytest.raises(ConfigError, match=r"private/model is no folder"):
        settings.open_source()


def test_declared_sessions_hold_from_where_params_are_read_and_are_part_of_a_bundle(values: dict, tmp_path) -> None:
    assert not {"closings", "openings"} & set(parse_settings(values).resolved(("data",))["data"])
    for load in (load_settings, load_serving):
        for closings, count in ((["2017-12-18"], 4), ([], 5)):
            values["data"]["closings"] = closings
            (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
            load(tmp_path / "params.yaml")
            assert len(sessions("2017-12-18", "2017-12-22")) == count
    values["data"]["closings"] = ["2017-12-18"]
    assert parse_settings(values).resolved(("data",))["data"]["closings"] == ["2017-12-18"]


REQUIRED = {
    "seed",
    "data.source",
    "data.simulated.planted_ic",
    "features.families",
    "layers.names",
    "governance.gates",
    "monitoring.rules",
}
"""What has no default: leaving it out is an error."""
FREE = {"factors", "strategies", "lag_days", "own"}
"""Mappings whose keys are the user's: one value each."""


def leaves(values: dict, place: str = "") -> Iterator[tuple[str, dict, str]]:
    """Every key of nested values: its dotted place, the mapping that holds it, and its name there."""
    for key, value in values.items():
        here = f"{place}.{key}" if place else key
        yield here, values, key
        if isinstance(value, dict) and key not in FREE:
            yield from leaves(value, here)


def meaning(values: dict) -> dict:
    """Everything that a run is computed from; what is switched off too, for somebody may switch it on."""
    told = parse_settings(values).resolved(_KEYS)
    for section, known, model in (
        ("data", PROVIDERS, lambda entry: entry.Params),
        ("features", FAMILIES, lambda entry: entry.params),
        ("layers", LAYERS, lambda entry: entry.Params),
    ):
        for name in known.names():
            given = values[section].get(name) or {}
            told[section][name] = parse(model(known[name]), given, f"{section}.{name}").model_dump()
    return told


def test_a_line_that_is_left_out_of_params_yaml_changes_nothing_or_is_missed(values: dict) -> None:
    whole, unchanged = meaning(values), 0
    for place, holder, key in [*leaves(values)]:
        kept = holder.pop(key)
        needed = {name for name in REQUIRED if f"{name}.".startswith(f"{place}.")}
        if needed:
            with pytest.raises(ConfigError, match=r"missing|list at least one"):
                meaning(values)
        else:
            assert meaning(values) == whole, f"{place}: the default of the code is not what params.yaml says"
            unchanged += 1
        holder[key] = kept
    assert unchanged > 150


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2017-02-30", r"line 2: '2017-02-30' is not a value: day is out of range"),
        ("2017-02-28T25:00:00", r"line 2: .* hour must be in 0\.\.23"),
        ("9" * 5_000, r"line 2: '9+' is not a value: "),
        ("9" * 400, "line 2: '9+' is not a value: a whole number has at most 18 digits"),
        ("!!timestamp x", "line 2: 'x' is not a value: not of the kind"),
        ("!!bool x", "line 2: 'x' is not a value: not of the kind"),
        ('"\\udcfc"', "line 2: .* no half characters"),
        ('"a\\0b"', "line 2: .* no NUL"),
        ('"\\UFFFFFFFF"', "is not valid YAML"),
        ("[" * 5_000, "nested too deeply"),
        ("{a: " * 3_000 + "1" + "}" * 3_000, "nested too deeply"),
    ],
    ids=lambda value: value[:12],
)
def test_a_value_that_nothing_can_use_is_one_line_with_its_place(tmp_path: Path, value: str, expected: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"seed: 7\nend: {value}\n")
    with pytest.raises(ConfigError, match=expected) as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 500 + len(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"seed: 7 # gepr\xfcft", "seed: 7".encode("utf-16"), bytes(range(256))])
def test_a_file_that_is_not_utf8_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"keys\.yaml is no UTF-8 text: save it as UTF-8"):
        read_yaml(tmp_path / "keys.yaml")


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"params\.yaml cannot be read \(Is a directory\)"):
        read_yaml(tmp_path / "params.yaml")


def test_a_stage_of_a_layer_that_is_not_in_the_run_is_refused(repository: Path) -> None:
    layers = load_settings(repository / "params.yaml").layers
    assert block_of(layers, "linear", "layers.names") is layers["linear"]
    with pytest.raises(ConfigError, match=r"trees is not part of the run \(layers.names: behaviour, boosting"):
        block_of(layers, "trees", "layers.names")
