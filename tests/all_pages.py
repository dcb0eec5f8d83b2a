"""Every page of the app of a checkout, run by Streamlit's AppTest: ``python -m tests.all_pages``, in that checkout."""

import json
import sys

from streamlit.testing.v1 import AppTest

from data.paths import ROOT
from monitor.ui.text import LANGUAGE

PAGES: tuple[tuple[str, dict[str, str]], ...] = (
    ("today", {}),
    ("court", {}),
    ("why", {}),
    *(("why", {"section": section}) for section in ("labels", "inputs", "estimate", "errors")),
    ("champions", {}),
    ("system", {}),
)
LANGUAGES = ("en", "pt")
_SECONDS = 600
_TEXTS = (
    "title",
    "header",
    "subheader",
    "markdown",
    "caption",
    "text",
    "info",
    "warning",
    "error",
    "success",
    "metric",
)


def shown() -> dict[str, dict[str, list[str]]]:
    """Texts and exceptions by page, section and language."""
    found = {}
    for language in LANGUAGES:
        for page, query in PAGES:
            app = AppTest.from_file(str(ROOT / "monitor" / "ui" / f"{page}.py"), default_timeout=_SECONDS)
            app.session_state[LANGUAGE] = language
            for name, value in query.items():
                app.query_params[name] = value
            app.run()
            texts = [str(getattr(each, "label", "")) for each in (*app.metric, *app.button, *app.selectbox)]
            texts += [str(getattr(each, "value", "")) for kind in _TEXTS for each in app.get(kind)]
            texts += [each.value.to_csv() for each in app.dataframe]
            key = " ".join((page, *query.values(), language))
            found[key] = {"texts": texts, "exceptions": [each.message for each in app.exception]}
    return found


if __name__ == "__main__":
    json.dump(shown(), sys.stdout)
