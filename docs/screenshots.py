"""Take the pictures of docs/governance.md: what a reviewer sees, in a real browser, on a copy of this registry.

`make screenshots` needs a champion, a candidate that may not be one, and a Chromium with its driver.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from core.checkout import find_root
from core.errors import GovernanceError
from governance.policy import load_policy
from governance.registry import read_registry
from tests.governance.browser import Pages, browsing
from tests.governance.servers import started

IMAGES = Path("docs/images/review")
_COPIED = ("params.yaml", "dvc.yaml", "keys.yaml")
_COLOURS = 256


def copy_registry(root: Path, to: Path) -> None:
    """What the server needs, in a checkout of somebody else."""
    shutil.copytree(root / "mlruns", to / "mlruns")
    for name in _COPIED:
        shutil.copyfile(root / name, to / name)
    for arguments in (("init", "-q"), ("config", "user.name", "Grace"), ("config", "user.email", "grace@example.org")):
        subprocess.run(["git", *arguments], cwd=to, check=True)


def keep(pages: Pages, name: str) -> None:
    """Write what the browser shows as a small PNG."""
    picture = Image.open(io.BytesIO(pages.browser.get_screenshot_as_png())).convert("RGB")
    picture.quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        IMAGES / f"{name}.png", optimize=True
    )


def take(pages: Pages, model: str, candidate: int, champion: int) -> None:
    """Walk through a review."""
    pages.open_version(model, candidate)
    pages.wait_for_text("Read:")
    keep(pages, "version")
    for name, link, shown in (
        ("report", "report", "//h1"),
        ("plots", "report", "//h2[contains(., 'Does it rank')]"),
        ("data-quality", "data quality", "//h1"),
        ("comparison", f"beside version {champion}", "//h1"),
    ):
        pages.open_version(model, candidate)
        pages.follow(link)
        pages.scroll_file(shown)
        keep(pages, name)
    pages.open_version(model, candidate)
    pages.set_alias("champion")
    pages.wait_for_text("may not be promoted", within="//*[@role='dialog']")
    keep(pages, "refusal")


def main() -> None:
    """Take every picture."""
    root = find_root()
    model = load_policy(root).model
    aliases = read_registry(root, model).aliases
    if not {"champion", "candidate"} <= aliases.keys() or aliases["champion"] == aliases["candidate"]:
        raise GovernanceError("the pictures show a candidate beside a champion: register a second version first")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        copy_registry(root, Path(name))
        with started(Path(name)) as (address, _), browsing(address, 1280, 1000) as pages:
            take(pages, model, aliases["candidate"], aliases["champion"])


if __name__ == "__main__":
    main()
