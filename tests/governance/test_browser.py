"""The review as a person does it: MLflow's pages in a headless Chromium, against a server of its own."""

import json

import pytest

from governance.guard import serving
from tests.governance.servers import started

pytest.importorskip("selenium", reason="selenium is not installed: pip install -c requirements.lock -e '.[dev]'")

from tests.governance.browser import browsing, chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium with its driver: apt-get install chromium-driver"),
]

MODEL = "layered-signals"
ROB = "Rob <rob@example.org>"
ANN = "Ann Author <ann@example.org>"


def access(world):
    return [json.loads(line) for line in (world.root / "mlruns/access.jsonl").read_text().splitlines()]


def test_a_review_and_a_promotion_in_the_pages(governed):
    governed.train(weight=3.0, rank_ic=0.09, seed=2)
    assert governed.register().version == 3
    with started(governed.root) as (address, _), browsing(address) as pages:
        pages.open_version(MODEL, 3)
        told = pages.wait_for_text("Gates: pass")
        assert "test.stack.rank_ic = 0.09, must be >= 0.01" in told
        assert "gates.verdict" in told
        for link, words in (("report", "report"), ("data quality", "quality"), ("lineage", "git")):
            pages.follow(link)
            pages.file_text(words) if link == "report" else pages.wait_for_text(words)
            pages.open_version(MODEL, 3)

        pages.set_alias("champion")
        pages.wait_for_text("version 3 may not be promoted: nobody has approved it", within="//*[@role='dialog']")
        assert serving(governed.root).version == 1
        pages.cancel()
        for tag, value in (
            ("review.comment", "stable by year"),
            ("review.by", ROB),
            ("review.status", "approved"),
        ):
            pages.set_tag(tag, value)
            pages.wait_for_text(value, within=f"//tr[@data-row-key={tag!r}]")
        pages.set_alias("champion")
        pages.wait_for_text("@ champion")
        pages.wait_gone("//*[@role='dialog']")
    served = serving(governed.root)
    assert (served.version, served.warnings) == (3, ())
    review, promoted = governed.ledger().read().records[-2:]
    assert (review.kind, review.actor, review.payload["comment"]) == (
        "reviewed",
        "Rob <rob@example.org>",
        "stable by year",
    )
    assert (promoted.kind, promoted.actor) == ("promoted", ANN)
    lines = access(governed)
    assert [line["verdict"] for line in lines] == ["refused", "allowed", "allowed", "reviewed", "promoted"]
    assert {line["user"] for line in lines} == {ANN}
    assert lines[0]["reason"].startswith("version 3 may not be promoted: nobody has approved it")
