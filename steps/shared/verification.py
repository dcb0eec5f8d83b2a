"""Whether a version predicts what it predicted when it was registered."""

from data import datasets
from serving import registry
from serving.batch.in_process import (
    PREDICTIONS_SHA256,
    ROUNDED_DECIMALS,
    ROUNDED_PREDICTIONS_SHA256,
    prediction_hash,
)


def verify_predictions(version: str) -> str:
    """How the predictions of a version compare with those when it was registered.

    Raises
    ------
    RegistryError
        If they differ.
    """
    tags, uri = registry.tags_of(version), registry.uri(version)
    found = prediction_hash(uri)
    recorded = registry.read_tag(tags, PREDICTIONS_SHA256)
    if not recorded:
        return "the version has no hash of its predictions at registration"
    registered = datasets.current().rows
    if recorded == found:
        return f"bit-identical on 512 {registered} to those at registration"
    if registry.read_tag(tags, ROUNDED_PREDICTIONS_SHA256) == prediction_hash(uri, ROUNDED_DECIMALS):
        return f"equal on 512 {registered} to those at registration, to {ROUNDED_DECIMALS} decimals (another machine)"
    message = (
        f"The predictions of version {version} of {registry.model()} differ from those at its registration: "
        "its files or the libraries have changed. Nothing was changed; give another version."
    )
    raise registry.RegistryError(message)
