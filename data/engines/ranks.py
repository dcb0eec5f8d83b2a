"""Where to cut an ordered table, so that one side has enough rows."""

import ibis
import ibis.expr.types as ir

from data.engines.engine import Engine
from data.errors import SchemaError


def smallest_with_rows(engine: Engine, table: ir.Table, column: str, rows: float, *, latest: bool = False) -> object:
    """Return the value at which at least this number of rows is reached, equal values together.

    Parameters
    ----------
    engine : data.engines.engine.Engine
    table : ibis.Table
    column : str
        Column that orders the rows; rows in which it is null are not counted.
    rows : float
        Number of rows.
    latest : bool
        Whether to count from the greatest value.

    Raises
    ------
    SchemaError
        If the table has fewer rows with a value.
    """
    held = table.filter(table[column].notnull())
    counted = held.group_by(column).aggregate(_rows=held.count())
    order = ibis.desc(counted[column]) if latest else counted[column]
    window = ibis.window(order_by=order, preceding=None, following=0)
    counted = counted.mutate(_reached=counted["_rows"].sum().over(window))
    enough = counted.filter(counted["_reached"] >= int(rows))
    [found] = engine.rows(enough.aggregate(value=enough[column].max() if latest else enough[column].min()))
    if found["value"] is None:
        message = f"expected {int(rows):,} rows with a {column}; found fewer."
        raise SchemaError(message)
    return found["value"]
