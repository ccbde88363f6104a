"""The command line `signals`. An expected error is one line on standard error and its exit code."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from core.errors import SignalsError
from core.text import print_anything
from pipelines.log import Log, told


class _OneLine(TyperGroup):
    """Ends expected errors as one line; nothing that a user can cause shows a traceback."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line, whatever standard output can encode."""
        print_anything()
        return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; end an expected error with its exit code."""
        try:
            return super().invoke(ctx)
        except SignalsError as error:
            Log(str(ctx.invoked_subcommand)).failure(error)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=_OneLine,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Equity signals under governed promotion. Exit codes: 0 done, 1 a fault, 2 parameters, 3 data, 4 session, "
    "5 leakage, 6 bundle, 7 governance, 8 storage, 9 a stage failed, 10 no solution.",
)

keys = typer.Typer(no_args_is_help=True, help="Keys that sign decisions.")
app.add_typer(keys, name="keys")

Version = Annotated[str, typer.Argument(help="A version number, or an alias: candidate, champion.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides, as 'Name <email>'; git's identity if not given.")]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", help="Session, YYYY-MM-DD, or latest (of the data); else the last completed one."),
]
JsonLogs = Annotated[
    bool, typer.Option("--json-logs", help="Tell everything in JSON lines on standard error, as SIGNALS_LOG=json does.")
]


def _root() -> Path:
    from core.checkout import find_root

    return find_root()


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage in a process of one session: through all that it imports it takes a second of eight."""
    gc.disable()
    atexit.register(gc.freeze)  # the interpreter searches once more when it ends
    try:
        yield
    finally:
        gc.enable()


@app.command()
def run(
    data: Annotated[str | None, typer.Option("--data", help="Folder of tables; params.yaml if not given.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="fast or full; params.yaml if not given.")] = None,
) -> None:
    """Run every stage that is out of date, register the bundle, preview the signals."""
    from pipelines import run as stage

    stage.run(data, preset)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("--out", help="Folder to write: a new one, or that of an earlier market.")],
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="default, null (nothing to find), planted (a plant for each layer), crisis."),
    ] = None,
    symbols: Annotated[int | None, typer.Option("--symbols", help="Number of firms.")] = None,
    start: Annotated[str | None, typer.Option("--start", help="First day, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Last day, YYYY-MM-DD.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed, the same market.")] = None,
    planted_ic: Annotated[
        float | None, typer.Option("--planted-ic", help="Oracle IC of all that is planted; the preset's if not given.")
    ] = None,
) -> None:
    """Write a simulated market as a folder to run on, and its truth beside it, which no stage reads."""
    from pipelines import simulate as stage

    choices = {"preset": preset, "symbols": symbols, "start": start, "end": end, "seed": seed, "planted_ic": planted_ic}
    stage.simulate(out, choices)


@app.command()
def truth() -> None:
    """Show what stack and layers find of a simulated market's truth; write reports/truth.json."""
    from pipelines import truth as stage

    stage.truth(_root())


@app.command()
def register() -> None:
    """Register the bundle on disk in MLflow and judge it by the gates."""
    from pipelines import register as stage

    stage.register(_root())


@app.command()
def status() -> None:
    """Show champion, candidate, gates, the ledger, and what to type next."""
    from pipelines import promote as stage

    stage.status(_root())


@app.command()
def compare(
    challenger: Version,
    champion: Annotated[str, typer.Argument(help="The version to compare with.")] = "champion",
) -> None:
    """Set a version against another on the days of both; print, and write reports/compare/A-vs-B."""
    from pipelines import compare as stage

    stage.compare(_root(), challenger, champion)


@app.command()
def reproduce(
    version: Version,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the rebuilt checkout behind, and say where.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also with other library versions than then.")] = False,
    cache: Annotated[bool, typer.Option("--cache", help="Take what DVC's cache holds: faster, proves less.")] = False,
) -> None:
    """Make a version again from its lineage, in a clean checkout, and compare every byte of its bundle."""
    from pipelines import reproduce as stage

    stage.reproduce(_root(), version, keep=keep, anyway=anyway, cache=cache)


@app.command()
def review(
    version: Version,
    decision: Annotated[str, typer.Argument(help="approve or reject")],
    comment: Annotated[str, typer.Option("--comment", help="What you looked at and found.")],
    by: By = None,
) -> None:
    """Approve or reject a version; not by its author."""
    from pipelines import promote as stage

    stage.review(_root(), version, decision, by, comment)


@app.command()
def waive(
    version: Version,
    gate: Annotated[str, typer.Argument(help="Name of the failing gate.")],
    reason: Annotated[str, typer.Option("--reason", help="Why the version may serve in spite of it.")],
    until: Annotated[str, typer.Option("--until", help="Last day of the waiver, YYYY-MM-DD.")],
    by: By = None,
) -> None:
    """Let a version fail one gate until a day; shown wherever the version is."""
    from pipelines import promote as stage

    stage.waive(_root(), version, gate, by, reason, until)


@app.command()
def promote(
    version: Version,
    by: By = None,
    comment: Annotated[str, typer.Option("--comment", help="Why now.")] = "",
) -> None:
    """Put a reviewed version into production."""
    from pipelines import promote as stage

    stage.promote(_root(), version, by, comment)


@app.command()
def rollback(reason: Annotated[str, typer.Option("--reason", help="Why.")], by: By = None) -> None:
    """Take the champion out of production and restore the one before it."""
    from pipelines import promote as stage

    stage.rollback(_root(), by, reason)


@app.command()
def freeze(reason: Annotated[str, typer.Option("--reason", help="Why.")], by: By = None) -> None:
    """Emergency stop: nothing is served or promoted until it is lifted."""
    from pipelines import promote as stage

    stage.freeze(_root(), by, reason)


@app.command()
def unfreeze(reason: Annotated[str, typer.Option("--reason", help="Why.")], by: By = None) -> None:
    """Lift the emergency stop."""
    from pipelines import promote as stage

    stage.unfreeze(_root(), by, reason)


@app.command()
def audit(
    head: Annotated[str | None, typer.Option("--head", help="A head of the ledger noted elsewhere.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Check ledger, signatures, clock, versions, aliases and served signals; say what broke where."""
    from pipelines import audit as stage

    stage.audit(_root(), head, as_json)


@keys.command("new")
def keys_new(by: By = None) -> None:
    """Make a key pair and print what to add to keys.yaml."""
    from pipelines import keys as stage

    stage.new(_root(), by)


@keys.command("list")
def keys_list() -> None:
    """Show whose signature counts."""
    from pipelines import keys as stage

    stage.show(_root())


@app.command()
def history(at: Annotated[str | None, typer.Option("--at", help="A day or a moment, UTC.")] = None) -> None:
    """Show which version was in production when, and why."""
    from pipelines import promote as stage

    stage.history(_root(), at)


@app.command()
def infer(
    as_of: AsOf = None,
    force: Annotated[bool, typer.Option("--force", help="Write again what is there already.")] = False,
    json_logs: JsonLogs = False,
) -> None:
    """Write a session's signals, made by its champion."""
    log = Log("infer", json_logs)
    with told(log), _uncollected():
        from pipelines import infer as stage

        stage.infer(as_of, force, log)


@app.command()
def backfill(
    start: Annotated[str, typer.Option("--start", help="First day, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--end", help="Last day, YYYY-MM-DD.")],
    force: Annotated[bool, typer.Option("--force", help="Write again the sessions that stand already.")] = False,
    json_logs: JsonLogs = False,
) -> None:
    """Write the signals of every session of a range; those that stand are skipped."""
    log = Log("backfill", json_logs)
    with told(log):
        from pipelines import backfill as stage

        worst = stage.backfill(start, end, force, log)
    raise typer.Exit(worst)


@app.command()
def preview(
    as_of: Annotated[str, typer.Option("--as-of", help="Session, YYYY-MM-DD; else the data's last.")] = "latest",
    json_logs: JsonLogs = False,
) -> None:
    """Write the signals of the bundle on disk, marked PREVIEW, apart from the served ones."""
    log = Log("preview", json_logs)
    with told(log), _uncollected():
        from pipelines import infer as stage

        stage.preview(as_of, log)


@app.command()
def monitor(
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Session to judge at, YYYY-MM-DD; the data's last if not given.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with 7 where the verdict is freeze.")] = False,
    features: Annotated[bool, typer.Option(help="Compare the latest features with training.")] = True,
) -> None:
    """Judge the served signals by what became of them; write reports/monitor."""
    from pipelines import monitor as stage

    stage.watch(_root(), as_of, strict, features)


@app.command()
def retrain(
    write: Annotated[bool, typer.Option("--write", help="Put the proposed changes into params.yaml.")] = False,
) -> None:
    """Propose the next training after `signals monitor`, with the command to type; train nothing."""
    from pipelines import retrain as stage

    stage.propose(_root(), write)


@app.command()
def shadow(
    as_of: AsOf = None,
    force: Annotated[bool, typer.Option("--force", help="Write again what is there already.")] = False,
    json_logs: JsonLogs = False,
) -> None:
    """Write the day's signals of the versions in monitoring.shadow, apart from the served ones."""
    log = Log("shadow", json_logs)
    with told(log):
        from pipelines import infer as stage

        stage.shadow(as_of, force, log)


@app.command()
def features(
    family: Annotated[str | None, typer.Option("--family", help="One family, in the run or not.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Families that params.yaml leaves out too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, for machines.")] = False,
) -> None:
    """List the features: lookback, units, expected sign, inputs, definition, reference."""
    from pipelines import catalogue as stage

    stage.show(_root(), family=family, everything=everything, as_json=as_json)


@app.command()
def catalogue(
    docs: Annotated[Path | None, typer.Option("--docs", help="Folder of features.md; docs if not given.")] = None,
) -> None:
    """Measure every feature on the data of the last run; write docs/features.md and an HTML page."""
    from pipelines import catalogue as stage
    from pipelines.layout import DOCS

    root = _root()
    stage.catalogue(root, docs or root / DOCS)


Scenarios = Annotated[
    list[Path] | None,
    typer.Option("--scenarios", help="A file of stress scenarios of your own, in the form of market/stress.yaml."),
]


@app.command()
def risk(
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Session, YYYY-MM-DD; the newest that has signals if not given.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Of the previewed signals, not the served ones.")] = False,
    scenarios: Scenarios = None,
) -> None:
    """Show what a session's book may lose, and through what; write risk/date=D."""
    from pipelines import risk as stage

    stage.risk(_root(), as_of, preview=preview, scenarios=scenarios or ())


@app.command()
def tearsheet(scenarios: Scenarios = None) -> None:
    """Write the last run's backtest as a page with plots, reports/tearsheet/index.html."""
    from pipelines import tearsheet as stage

    stage.tearsheet(_root(), scenarios or ())


@app.command()
def ui(
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option("--host", help="Where to listen; other machines need --team.")] = "127.0.0.1",
    team: Annotated[bool, typer.Option("--team", help="With logins: MLflow's basic authentication.")] = False,
) -> None:
    """Open MLflow's pages on this machine, behind the project's policy."""
    from pipelines import ui as stage

    stage.serve_ui(_root(), host, port, team)


if __name__ == "__main__":
    app()
