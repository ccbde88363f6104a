"""Who is who: names and email addresses as people type them.

Nothing here proves an identity; a signature does (`governance.keys`). Unsigned, on one person's
machine, the second-person rule rests on honesty; whatever prints a decision says so.
"""

from __future__ import annotations

import re
import unicodedata

from core.errors import GovernanceError
from core.text import require_text

UNVERIFIED = (
    "UNSIGNED: identities are NOT verified: anyone who can write to this folder can type any name; "
    "the ledger shows edits, it cannot show who made them"
)

LONGEST_NAME = 200
"""Characters of a name: it is part of the name of a key's file too."""
LONGEST_COMMENT = 5_000
"""Characters of a comment or a reason: as many as MLflow's page of a version shows."""

_EMAIL = re.compile(r"<?([^\s<>]+@[^\s<>]+)>?")


def identities(person: str) -> frozenset[str]:
    """The name and the email address in `Name <email>`, folded for comparison."""
    text = " ".join(unicodedata.normalize("NFKC", person).casefold().split())
    emails = set(_EMAIL.findall(text))
    name = " ".join(_EMAIL.sub(" ", text).split())
    return frozenset({*emails, name} - {""})


def same_person(one: str, other: str) -> bool:
    """Whether two people share a name or an email address, whatever the case."""
    return bool(identities(one) & identities(other))


def require_name(person: str, what: str) -> str:
    """The trimmed name.

    Raises
    ------
    ConfigError
        It is not text that can be recorded.
    GovernanceError
        It is empty.
    """
    name = require_text(person, f"the name for {what}", LONGEST_NAME)
    if not identities(name):
        raise GovernanceError(f"{what} needs a name: give it with --by 'Name <email>'")
    return name
