"""What to do when a check fails, by its code; ``docs/monitoring.md`` explains each check."""

import re

from data.datasets import for_dataset

_ACTIONS = {
    "K101": "Retrain on labeled rows like these: mlflow run . -e retreino",
    "K102": "As K101. A lower base rate lowers the log loss of a worse model; the skill score shows it.",
    "K103": "Retrain, or roll back: mlflow run . -e retreino, mlflow run . -e reverter",
    "K104": "Inspect the confusion matrix: page Why, Labels.",
    "K105": "Recalibrate or retrain; decisions by P(made) have this error.",
    "K106": "Join the labels: python -m serving.inference_log.ground_truth FILE",
    "K107": "Wait for more rows.",
    "K108": "Score new rows.",
    "K201": "Find the feature in the rows above: a new population, or a broken feed.",
    "K202": "Read it with the drifted features.",
    "K203": "Features may have drifted together that have not drifted alone.",
    "K204": "Do not trust P(made) of these rows; train on rows like them.",
    "K205": "Find where the new categories come from; train on rows that have them.",
    "K206": "Find the broken feed, or train on rows with as many nulls.",
    "K301": "Wait for labels.",
    "K401": "Retrain, or promote the version again.",
    "K402": "Start the server: make serve",
    "K403": "Restart the server; make serve reloads by itself.",
    "K404": "Score again: mlflow run . -e monitoramento -P rescore=if_needed",
}

_COMMAND = re.compile(r"mlflow run \. -e \w+(?: -P \w+=\w+)*|make \w+|python -m [\w.]+ FILE")


def action(code: str) -> str:
    """What to do when a check fails, with commands for the dataset of this process; empty for an unknown code.

    Examples
    --------
    >>> action("K404")
    'Score again: mlflow run . -e monitoramento -P rescore=if_needed'
    """
    return _COMMAND.sub(lambda found: for_dataset(found[0]), _ACTIONS.get(code, ""))
