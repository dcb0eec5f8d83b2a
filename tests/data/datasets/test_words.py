import pytest

from data.datasets import default, load, worded

CREDIT = default().model_copy(
    update={"positive": "overdue", "negative": "paid", "row": "loan", "rows": "loans", "rate": "default rate"}
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Mean P(made)", "Mean P(overdue)"),
        ("Shots are made or missed", "Loans are overdue or paid"),
        (
            "a made shot has a higher P(made) than a missed one",
            "an overdue loan has a higher P(overdue) than a paid one",
        ),
        ("FG% of each shot; 40% go in", "default rate of each loan; 40% are overdue"),
        ("remade, shotgun", "remade, shotgun"),
    ],
)
def test_a_sentence_about_shots_has_the_words_of_another_dataset(template: str, expected: str) -> None:
    assert worded(template, CREDIT) == expected
    assert worded(template, default()) == worded(template, load("nba_chart")) == template


def test_words_that_are_each_others_are_replaced_once() -> None:
    payments = default().model_copy(update={"positive": "missed", "negative": "made", "rows": "payments"})
    assert worded("made and missed shots", payments) == "missed and made payments"
