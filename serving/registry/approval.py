"""Approval by a person: a version that passed the gate waits, and Production stays, until a person decides."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from data.datasets import for_dataset
from serving.registry.errors import ConcurrentPromotionError, RegistryError
from serving.registry.gate import GateResult
from serving.registry.lock import change_lock
from serving.registry.promotion import (
    archive,
    promote,
    require_compared_with_champion,
    supersede,
    user,
    write_gate_result,
)
from serving.registry.versions import (
    AWAITING,
    CHALLENGER,
    GATE,
    GATE_REASON,
    PASSED,
    all_versions,
    awaiting_approval,
    champion,
    model,
    number,
    reason_not_passed,
)

APPROVAL = "approval"
"""Tag of a version: when its approval was requested, against which champion, and who decided what, when and why."""

APPROVED, REJECTED = "approved", "rejected"

Approval = dict[str, str]


def approval_of(tags: Mapping[str, str]) -> Approval:
    """The request of an approval and its decision, of the tags of a version; empty where none was requested.

    ``requested`` and ``instead_of`` (empty for no champion); once it is decided ``decision``, ``when``, ``who`` and
    ``why``.
    """
    return dict(json.loads(tags.get(APPROVAL, "{}")))


@change_lock()
def request_approval(version: str, result: GateResult, *, instead_of: str) -> None:
    """Let a version that passed the gate wait for a person; other versions that wait are archived.

    It gets the alias ``challenger``. Its gate result is `AWAITING`, so that nothing promotes it before.

    Parameters
    ----------
    version : str
    result : GateResult
        Passed.
    instead_of : str
        The champion that it was compared with, empty for none; it must still be the champion.

    Raises
    ------
    ConcurrentPromotionError
        If another version has become champion since.
    """
    require_compared_with_champion(version, instead_of)
    client = MlflowClient()
    _write(version, {"requested": _now(), "instead_of": instead_of})
    client.set_registered_model_alias(model(), CHALLENGER, version)
    write_gate_result(version, result, AWAITING)
    supersede(version, f"version {version} took its place before a person decided")


def require_awaiting(version: str = "") -> ModelVersion:
    """The version that waits for approval: that of a number, or the only one.

    Raises
    ------
    RegistryError
        If none waits, several do and none is named, there is no such version, or it does not wait: what became of it.
    """
    waiting = awaiting_approval()
    names = ", ".join(map(number, waiting)) or "none"
    if not version:
        if len(waiting) == 1:
            return waiting[0]
        message = f"Expected one version of {model()} that waits for approval; found {names}. " + (
            "Give the number of one: -P version=N." if waiting else "Nothing was changed."
        )
        raise RegistryError(message)
    known = {number(found): found for found in all_versions()}
    if version not in known:
        message = f"{model()} has no version {version}: it was deleted, or never registered. Waiting: {names}."
        raise RegistryError(message)
    found = known[version]
    if found.tags.get(GATE) != AWAITING:
        message = f"Version {version} of {model()} does not wait for approval: {_what_became(found)}. Waiting: {names}."
        raise RegistryError(message)
    return found


@change_lock()
def approve(version: str, reason: str, *, who: str = "") -> None:
    """Promote a version that waits for approval.

    Parameters
    ----------
    version : str
    reason : str
        Kept in the history of the version.
    who : str
        The person who approves; empty is the user of this process.

    Raises
    ------
    ConcurrentPromotionError
        If it was compared with another champion than that of now.
    RegistryError
        If it does not wait. Champion and Production stay as they were in either case.
    """
    found = require_awaiting(version)
    held, who = approval_of(found.tags), who or user()
    compared_with = held.get("instead_of", "")
    try:
        require_compared_with_champion(version, compared_with)
    except ConcurrentPromotionError as error:
        message = (
            f"{error} Its test does not compare it with that one, so it is not promoted. Reject it, and train another: "
            f"{for_dataset('mlflow run . -e aprovar')} -P version={version} -P decision=reject -P reason=..."
        )
        raise ConcurrentPromotionError(message) from error
    client = MlflowClient()
    _write(version, {**held, **_decision(APPROVED, who, reason)})
    client.set_model_version_tag(model(), version, GATE, PASSED)
    try:
        why = f"{found.tags.get(GATE_REASON, '')}; approved by {who}: {reason}"
        promote(version, why, instead_of=compared_with, who=who)
    except ConcurrentPromotionError:
        client.set_model_version_tag(model(), version, GATE, AWAITING)
        _write(version, held)
        raise


@change_lock()
def reject(version: str, reason: str, *, who: str = "") -> None:
    """Archive a version that waits for approval; champion and Production stay as they are.

    Raises
    ------
    RegistryError
        If it does not wait.
    """
    found, who = require_awaiting(version), who or user()
    _write(version, {**approval_of(found.tags), **_decision(REJECTED, who, reason)})
    archive(version, f"rejected by {who}: {reason}; it had passed the gate: {found.tags.get(GATE_REASON, '')}")


def _what_became(version: ModelVersion) -> str:
    held, current = approval_of(version.tags), champion()
    if "decision" in held:
        what = f"it was {held['decision']} by {held['who']} on {held['when'][:16].replace('T', ' ')} UTC: {held['why']}"
    elif version.tags.get(GATE) == PASSED:
        what = "it passed the gate, and its promotion needed no approval"
    else:
        what = reason_not_passed(version)
    return f"it is the champion; {what}" if current and number(current) == number(version) else what


def _decision(decision: str, who: str, why: str) -> Approval:
    return {"decision": decision, "when": _now(), "who": who, "why": why}


def _write(version: str, held: Approval) -> None:
    MlflowClient().set_model_version_tag(model(), version, APPROVAL, json.dumps(held))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
