"""What both readers share: headings against the columns of a schema, and Arrow's types as those of pandas."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from core.errors import DataError
from sources.schemas import TableSchema, require_columns

_INTEGERS = {
    pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype(), pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}  # fmt: skip


def to_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table in pandas; integers stay integers where values are missing."""
    return table.to_pandas(date_as_object=False, ignore_metadata=True, types_mapper=_INTEGERS.get)


def find_columns(schema: TableSchema, headings: Sequence[str], where: str) -> dict[str, str]:
    """Heading of each column of the schema that a table has; case and surrounding blanks do not count.

    Parameters
    ----------
    schema
        What the table should have.
    headings
        What it has; those that the schema does not name are ignored.
    where
        The file, for messages.

    Raises
    ------
    DataError
        A column is there twice, or is missing.
    """
    spelt: dict[str, list[str]] = {}
    for heading in headings:
        spelt.setdefault(heading.strip().casefold(), []).append(heading)
    for name in schema.columns:
        if len(found := spelt.get(name, [])) > 1:
            listed = " and ".join(map(repr, found))
            raise DataError(f"{where}: column {name!r} is there {len(found)} times ({listed}): keep one of them")
    require_columns(schema, [name if name in schema.columns else found[0] for name, found in spelt.items()], where)
    return {name: spelt[name][0] for name in schema.columns if name in spelt}
