from bench.mutation import apply_decorators_after

SOURCE = """
from functools import cache

def times(factor):
    return lambda function: lambda: factor * function()

@times(2)
@cache
def four():
    return 2

class Shot:
    @property
    def points(self):
        return 3

    @staticmethod
    def of():
        return Shot()
"""


def test_functions_are_decorated_below_themselves_where_mutants_are_made_of_them() -> None:
    measured = apply_decorators_after(SOURCE)
    assert [line.strip() for line in measured.splitlines() if "@" in line] == ["@staticmethod"]
    names: dict[str, object] = {}
    exec(f"{measured}\nfound = four(), Shot.of().points", names)  # noqa: S102 the source above
    assert names["found"] == (4, 3)
