"""`signals simulate`: a folder to point a run at, whole or not there, and never in the place of other things."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from core.files import read_json, read_parquet
from pipelines import ingest, simulate
from pipelines.choices import choose_data
from pipelines.cli import app
from pipelines.layout import RAW
from pipelines.params import load_settings
from pipelines.truth import load_truth
from sources.providers.simulated import Simulated
from sources.schemas import TABLES
from sources.simulation.params import SimulationParams

WORDS = ("--symbols", "12", "--start", "2010-01-04", "--end", "2011-06-30", "--seed", "3")
PARAMS = SimulationParams(
    symbols=12, start=datetime.date(2010, 1, 4), end=datetime.date(2011, 6, 30), seed=3, planted_ic=None
)
RUN = sorted(name for name, schema in TABLES.items() if not schema.own)


def ask(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["simulate", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small market's folder, and what was said when it was written."""
    folder = tmp_path_factory.mktemp("simulate") / "market"
    code, out, err = ask("--out", str(folder), *WORDS)
    assert (code, err) == (0, "")
    return folder, out


@pytest.fixture
def market(written: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(written[0], tmp_path / "market")


@pytest.fixture
def no_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that goes as far as to simulate."""
    monkeypatch.setattr(simulate, "write_world", lambda *_: pytest.fail("nothing may be written"))


def test_it_says_what_it_wrote_and_what_to_type_next(written: tuple[Path, str]) -> None:
    folder, out = written
    lines = out.splitlines()
    assert lines[0] == f"wrote {folder}: preset default, 12 symbols, 2010-01-04 to 2011-06-30, seed 3"
    assert lines[1].startswith("planted: oracle IC 0.100 (drift 0.055, reversal 0.050, mood 0.045, value 0.050)")
    assert f"  make run DATA={folder}" in lines
    counts = {line.split()[0]: line.split()[1] for line in lines if ".parquet" in line}
    assert sorted(counts) == sorted(path.name for path in folder.glob("*.parquet"))
    assert counts["prices.parquet"] == f"{len(read_parquet(folder / 'prices.parquet')):,}"


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # pyarrow's own, of times with a zone
def test_a_run_takes_the_tables_and_leaves_the_truth(
    written: tuple[Path, str], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy2(repository / "params.yaml", tmp_path / "params.yaml")
    shutil.copytree(written[0], tmp_path / "market")
    monkeypatch.chdir(tmp_path)
    choose_data(tmp_path, "market")
    ingest.ingest(load_settings(tmp_path / "params.yaml"))
    assert sorted({path.relative_to(RAW).parts[0].split(".")[0] for path in RAW.rglob("*.parquet")}) == RUN
    for path in RAW.rglob("*.parquet"):
        columns = read_parquet(path).columns
        assert [name for name in columns if name.startswith("part_") or name in ("expected", "crowd", "regime")] == []


def test_the_truth_beside_the_tables_is_that_of_the_market(
    written: tuple[Path, str], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy2(repository / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    choose_data(tmp_path, str(written[0]))
    told, known = load_truth(load_settings(tmp_path / "params.yaml")), Simulated(None, PARAMS).truth()
    order = ["date", "symbol"]
    pd.testing.assert_frame_equal(
        told.sort_values(order, ignore_index=True)[list(known.columns)],
        known.sort_values(order, ignore_index=True),
        check_dtype=False,
    )
    later = load_truth(load_settings(tmp_path / "params.yaml"), pd.Timestamp("2011-01-03"))
    assert later["date"].min() == pd.Timestamp("2011-01-03")


@pytest.mark.slow
def test_the_same_words_write_the_same_bytes_and_another_seed_replaces_them(market: Path) -> None:
    before = {path.name: path.read_bytes() for path in market.iterdir()}
    assert ask("--out", str(market), *WORDS)[0] == 0
    assert {path.name: path.read_bytes() for path in market.iterdir()} == before
    assert ask("--out", str(market), *WORDS[:-1], "4", "--preset", "null")[0] == 0
    assert read_json(market / "world.json")["seed"] == 4
    truth = read_parquet(market / "truth.parquet")
    assert (truth["expected"] == 0.0).all()


def test_a_null_market_says_that_nothing_is_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "write_world", lambda params, folder, tick: tick(3, 9))
    code, out, _ = ask("--out", str(tmp_path / "a market"), "--preset", "null")
    assert code == 0
    assert "planted: nothing" in out
    assert f"make run DATA='{tmp_path}/a market'" in out


@pytest.mark.usefixtures("no_world")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--preset", "boom"), "preset = 'boom': Input should be 'default', 'null', 'planted' or 'crisis'"),
        (("--symbols", "1"), "symbols = 1: Input should be greater than or equal to 2"),
        (("--start", "yesterday"), "start = 'yesterday': write a date as YYYY-MM-DD"),
        (("--end", "2007-12-31"), "end 2007-12-31 must be after start 2008-01-02"),
        (("--seed=-1",), "seed = -1: Input should be greater than or equal to 0"),
        (("--planted-ic", "0.7"), "planted_ic = 0.7: Input should be less than 0.5"),
        (("--preset", "null", "--planted-ic", "0.1"), "nothing is planted whose strength it could set"),
    ],
)
def test_an_impossible_choice_is_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    code, out, err = ask("--out", str(tmp_path / "market"), *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
    assert "{" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_world")
@pytest.mark.parametrize("held", [("prices.parquet",), ("notes.txt",), ("world.json", "alternative.csv"), (".git",)])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, held: tuple[str, ...]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in held:
        (folder / name).write_text("mine")
    code, _, err = ask("--out", str(folder))
    assert code == 2
    assert "name a folder that does not exist yet" in err
    assert sorted(path.name for path in folder.iterdir()) == sorted(held)
    assert all((folder / name).read_text() == "mine" for name in held)


@pytest.mark.usefixtures("no_world")
def test_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    code, _, err = ask("--out", str(tmp_path / "mine"))
    assert code == 2
    assert "is a file" in err


def test_an_empty_folder_and_a_link_may_be_filled(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled: list[Path] = []
    monkeypatch.setattr(simulate, "write_world", lambda params, folder, tick: filled.append(folder))
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(market)
    assert ask("--out", str(tmp_path / "empty"))[0] == 0
    assert ask("--out", str(tmp_path / "link"))[0] == 0
    assert filled == [(tmp_path / "empty").resolve(), market.resolve()]


@pytest.mark.parametrize("there", [False, True])
def test_killed_half_way_it_leaves_nothing_and_what_was_there(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    folder = market if there else tmp_path / "new"
    before = {path.name: path.read_bytes() for path in market.iterdir()}
    whole, ticks = simulate.write_world, []

    def killed(params: SimulationParams, where: Path, tick: object) -> None:
        def stop(done: int, total: int) -> None:
            ticks.append(done)
            if 2 * done > total:
                raise KeyboardInterrupt

        whole(params, where, stop)

    monkeypatch.setattr(simulate, "write_world", killed)
    code, out, _ = ask("--out", str(folder), *WORDS)
    assert code != 0
    assert "wrote" not in out
    assert len(ticks) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["market"]
    assert {path.name: path.read_bytes() for path in market.iterdir()} == before
