"""The main job: `dvc repro`, the tear sheet, register both, show the gates and a preview of the day's signals."""

from __future__ import annotations

from core.checkout import PARAMS, find_root
from pipelines.choices import choose_data, choose_preset
from pipelines.params import load_settings
from pipelines.stages import reproduce


def run(data: str | None = None, preset: str | None = None) -> None:
    """Reproduce, write the tear sheet, register both, show the gates and a preview, and say what to type next.

    Parameters
    ----------
    data
        Folder of tables, or "simulated"; None keeps what params.yaml says.
    preset
        Name of a preset, `fast` or `full`; None keeps what params.yaml says.
    """
    root = find_root()
    if preset is not None:
        choose_preset(root, preset)
    if data is not None:
        choose_data(root, data)
    settings = load_settings(root / PARAMS)
    where = settings.data.path if settings.data.source == "files" else "generated"
    print(f"data: {settings.data.source} ({where})", flush=True)
    reproduce(root)

    # Not before: what they import would take memory that the stages need.
    from pipelines.infer import preview
    from pipelines.register import register
    from pipelines.tearsheet import tearsheet

    # Before the registration, which puts it beside the version.
    tearsheet(root)
    register(root)
    preview()
