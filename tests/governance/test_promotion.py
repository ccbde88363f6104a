"""From a training on disk to a served version, and every way it is refused."""

from governance import promotion
from governance.guard import serving

AUTHOR = "Ann Author <ann@example.org>"
REVIEWER = "Rob Reviewer <rob@example.org>"
OPERATOR = "Olga Operator"


def approve(world, version):
    return promotion.review(world.root, world.policy, version, "approved", REVIEWER, "read the report")


def promote(world, version):
    return promotion.promote(world.root, world.policy, version, OPERATOR)


def test_a_reviewed_version_is_promoted_and_served(world):
    registered = world.register()
    assert [v.gate for v in registered.verdicts if not v.passed] == []
    approve(world, registered.version)
    promote(world, registered.version)
    served = serving(world.root)
    assert (served.version, served.warnings, served.waivers) == (1, (), ())
    assert (served.bundle_path / "weights.json").is_file()
    assert served.digest == registered.bundle_digest
