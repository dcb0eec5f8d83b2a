"""Sentences in the words of a dataset: what is written for shots, for the rows and outcomes of another table."""

import re
from collections.abc import Callable

from data.datasets.current import current
from data.datasets.description import Dataset
from data.datasets.loader import default

_ROWS = Dataset.model_fields["rows"].default
_VOWELS = tuple("aeiouAEIOU")


def worded(template: str, dataset: Dataset | None = None) -> str:
    """Write a template of the default dataset in the words of another one.

    Parameters
    ----------
    template : str
        A sentence about shots: *shot*, *shots*, *made*, *missed*, *FG%*, *go in*, *kobe_shot*. It holds no values,
        which may have these words too.
    dataset : Dataset, optional
        By default that of this process.

    Examples
    --------
    >>> words = {"positive": "exported", "row": "order", "rows": "orders", "rate": "quota"}
    >>> orders = default().model_copy(update=words)
    >>> worded("P(made) of a made shot is above the FG% of all shots", orders)
    'P(exported) of an exported order is above the quota of all orders'
    >>> worded("Of the shots 40% go in.", orders)
    'Of the orders 40% are exported.'
    """
    dataset = dataset or current()
    brief = default()
    words: dict[str, str] = {
        brief.rows: dataset.rows,
        brief.row: dataset.row,
        brief.positive: dataset.positive,
        brief.negative: dataset.negative,
        brief.rate: dataset.rate,
        brief.registered_model: dataset.registered_model,
    }
    if dataset.positive != brief.positive:
        words |= {"go in": f"are {dataset.positive}", "goes in": dataset.positive}
    if all(words[word] == word for word in words):
        return template
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(rf"(?:\b([Aa]n?) )?(?<![\w/])({pattern})(?!\w)", _replacing(words), template, flags=re.IGNORECASE)


def worded_in_portuguese(text: str, dataset: Dataset | None = None) -> str:
    """Write a Portuguese text about shots in the words of another dataset; see `worded`.

    Examples
    --------
    >>> words = {"positive": "exported", "row": "order", "rows": "orders", "rate": "quota"}
    >>> orders = default().model_copy(update=words)
    >>> worded_in_portuguese("P(cesta) dos arremessos convertidos", orders)
    'P(exported) dos orders exported'
    """
    dataset = dataset or current()
    if dataset.rows != default().rows:
        row, rows = ("registro", "registros") if dataset.rows == _ROWS else (dataset.row, dataset.rows)
        words = {"arremesso": row, "arremessos": rows, "cesta": dataset.positive, "cestas": dataset.positive}
        words |= dict.fromkeys(("convertido", "convertidos"), dataset.positive)
        words |= dict.fromkeys(("errado", "errados"), dataset.negative)
        pattern = rf"(?<!\w)({'|'.join(words)})(?!\w)"
        text = re.sub(pattern, lambda found: _cased(words[found[0].lower()], found[0]), text, flags=re.IGNORECASE)
    return worded(text, dataset)


def _cased(word: str, model: str) -> str:
    return word[:1].upper() + word[1:] if model[0].isupper() else word


def _replacing(words: dict[str, str]) -> Callable[[re.Match[str]], str]:
    by_case = {word.casefold(): other for word, other in words.items()}

    def replace(found: re.Match[str]) -> str:
        article, word = found.groups()
        other = by_case[word.casefold()]
        if word[0].isupper() and word.casefold() != "fg%":
            other = _cased(other, word)
        if not article:
            return other
        return f"{article[0]}{'n' * other.startswith(_VOWELS)} {other}"

    return replace
