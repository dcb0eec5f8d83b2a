"""Changes of the registry: gate results, promotions, rollbacks, archiving. Each holds the lock and keeps one order.

The alias ``champion`` is authoritative and moves first. The stage ``Production``, the alias
``previous_champion`` and the alias ``challenger`` follow it in `reconcile`, which also completes a change that a kill
interrupted.
"""

import contextlib
import getpass
import json
import os
import socket
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from serving.registry.errors import ConcurrentPromotionError, RegistryError
from serving.registry.gate import GateResult
from serving.registry.history import HISTORY, PROMOTION, ROLL_BACK, champion_history, promotions
from serving.registry.lock import change_lock
from serving.registry.problems import report_problems
from serving.registry.versions import (
    ARCHIVE_REASON,
    ARCHIVED,
    CHALLENGER,
    CHAMPION,
    GATE,
    GATE_REASON,
    PASSED,
    PREVIOUS_CHAMPION,
    PRODUCTION,
    REJECTED,
    REVOKED,
    UNUSABLE,
    AliasState,
    alias_state,
    aliased,
    all_versions,
    awaiting_approval,
    champion,
    in_production,
    model,
    number,
    passed_gate,
    require_passed_gate,
)

_MAX_REASON_CHARACTERS = 5_000


@change_lock()
def record_gate_result(version: str, result: GateResult) -> None:
    """Write the result of the gate on a version, passed or not. No version is promoted."""
    write_gate_result(version, result, PASSED if result.passed else REJECTED)


def write_gate_result(version: str, result: GateResult, value: str) -> None:
    """Write the metrics and the reason of a gate result, and then its value."""
    client = MlflowClient()
    client.set_model_version_tag(model(), version, GATE_REASON, result.reason)
    for name, metric in result.metrics().items():
        client.set_model_version_tag(model(), version, f"gate_{name}", f"{metric:.6f}")
    client.set_model_version_tag(model(), version, GATE, value)


@change_lock()
def promote(version: str, why: str, *, instead_of: str | None = None, who: str = "") -> None:
    """Make a version that passed the gate the champion, and Production; versions that wait for approval are archived.

    Parameters
    ----------
    version : str
        Number of a version with a result of `record_gate_result`.
    why : str
        Kept in the history of the version, with who, when and where.
    instead_of : str, optional
        The champion that the version was compared with, empty for none; it must still be the champion.
    who : str
        The person who decided; empty is the user of this process.

    Raises
    ------
    ConcurrentPromotionError
        If another version has become champion since.
    RegistryError
        If the version has not passed the gate. Champion and Production stay as they were in either case.
    """
    if instead_of is not None:
        require_compared_with_champion(version, instead_of)
    _make_champion(version, why, PROMOTION, who)
    supersede(version, f"version {version} became champion before a person decided")


def require_compared_with_champion(version: str, compared_with: str) -> None:
    """Return if the champion is the one that a version was compared with, empty for none.

    Raises
    ------
    ConcurrentPromotionError
        If it is another one.
    """
    found = alias_state().champion or ""
    if found != compared_with:
        before, now = (f"version {name}" if name else "none" for name in (compared_with, found))
        message = f"Version {version} of {model()} was compared with champion {before}; the champion is now {now}."
        raise ConcurrentPromotionError(message)


def supersede(version: str, reason: str) -> None:
    """Archive all other versions that wait for the approval of a person."""
    for waiting in awaiting_approval():
        if number(waiting) != version:
            archive(number(waiting), reason)


@change_lock()
def roll_back(reason: str, version: str = "", *, instead_of: str | None = None) -> str:
    """Make an earlier champion the champion, and Production, again.

    Parameters
    ----------
    reason : str
        Kept in the history of the version that is restored.
    version : str
        See `rollback_target`.
    instead_of : str, optional
        The champion to replace, empty for none; it must still be the champion.

    Returns
    -------
    str
        Number of the version that is champion now.

    Raises
    ------
    ConcurrentPromotionError
        If another version has become champion since.
    RegistryError
        If there is no version to restore, or it may not be used; champion and Production stay as they were.
    """
    found = alias_state().champion or ""
    if instead_of is not None and found != instead_of:
        before, now = (f"version {name}" if name else "none" for name in (instead_of, found))
        message = (
            f"The champion of {model()} was {before} when this rollback started; another command has changed that, and "
            f"it is now {now}. Nothing was changed. Read the history (make history), and roll back again if needed."
        )
        raise ConcurrentPromotionError(message)
    target = rollback_target(version)
    _make_champion(target, reason, ROLL_BACK)
    return target


def rollback_target(version: str = "") -> str:
    """The version that a rollback would make champion.

    Parameters
    ----------
    version : str
        Its number; empty for the one before the champion. A second rollback restores the one before that.

    Raises
    ------
    RegistryError
        If there is none, it has not passed the gate, or it is the champion.
    """
    line, current = champion_history(), champion()
    before = line[:-1] if current else line
    if not version:
        if not before:
            message = f"{model()} has no previous champion to restore: no champion has followed another yet."
            raise RegistryError(message)
        return before[-1]
    known = {number(found): found for found in all_versions()}
    if version not in known:
        message = f"{model()} has no version {version}; expected one of {', '.join(sorted(known, key=int)) or 'none'}."
        raise RegistryError(message)
    if current and number(current) == version:
        message = f"Version {version} of {model()} is the champion already."
        raise RegistryError(message)
    require_passed_gate(known[version])
    return version


@change_lock()
def archive(version: str, reason: str) -> None:
    """Archive a version that did not become champion, with the reason; champion and Production stay as they are.

    If it waits for the approval of a person, it is rejected.
    """
    client = MlflowClient()
    client.set_model_version_tag(model(), version, ARCHIVE_REASON, reason[:_MAX_REASON_CHARACTERS])
    if version in map(number, awaiting_approval()):
        client.set_model_version_tag(model(), version, GATE_REASON, reason[:_MAX_REASON_CHARACTERS])
        client.set_model_version_tag(model(), version, GATE, REJECTED)
    if (named := aliased(CHALLENGER)) and number(named) == version:
        client.delete_registered_model_alias(model(), CHALLENGER)
    _move(version, ARCHIVED)


@contextlib.contextmanager
def rollback_on_failure() -> Iterator[None]:
    """Restore champion and Production when the block fails, if this process changed them."""
    before = alias_state()
    try:
        yield
    except BaseException as error:
        with change_lock():
            now = champion()
            if now and number(now) != before.champion and _was_promoted_here(now):
                reason = f"a step after its promotion failed: {type(error).__name__}: {error}"
                revoke(now, reason, restore=before)
        raise


@change_lock()
def revoke(version: ModelVersion, reason: str, *, restore: AliasState) -> None:
    """Revoke the gate result of a version, and restore the champion and the stages from before its promotion."""
    client = MlflowClient()
    # The version loses its result first: if a kill interrupts what follows, `reconcile` moves it out of Production.
    client.set_model_version_tag(model(), number(version), GATE, UNUSABLE)
    client.set_model_version_tag(model(), number(version), REVOKED, reason[:_MAX_REASON_CHARACTERS])
    _point(CHAMPION, restore.champion)
    _follow_champion()
    for former in restore.production - {number(found) for found in in_production()}:
        _move(former, PRODUCTION)


@change_lock()
def reconcile() -> None:
    """Print what `alias_problems` finds, and move stage and aliases to where the alias ``champion`` requires them.

    Production holds the champion alone, or, where no champion has passed the gate, no version that has not.
    ``previous_champion`` names the version that a rollback restores. The champion is not its own challenger.
    """
    report_problems()
    _follow_champion()


def _follow_champion() -> None:
    version = champion()
    if version and passed_gate(version):
        if {number(found) for found in in_production()} != {number(version)}:
            _move(number(version), PRODUCTION)
    else:
        for found in in_production():
            if not passed_gate(found):
                _move(number(found), ARCHIVED)
    line = champion_history()
    _point(PREVIOUS_CHAMPION, line[-2] if version and len(line) > 1 else None)
    challenger = aliased(CHALLENGER)
    if challenger and version and number(challenger) == number(version):
        _point(CHALLENGER, None)


def _point(alias: str, version: str | None) -> None:
    named = aliased(alias)
    if (number(named) if named else None) == version:
        return
    if version:
        MlflowClient().set_registered_model_alias(model(), alias, version)
    else:
        MlflowClient().delete_registered_model_alias(model(), alias)


def _make_champion(version: str, why: str, kind: str, who: str = "") -> None:
    client = MlflowClient()
    candidate = client.get_model_version(model(), version)
    require_passed_gate(candidate)
    current = champion()
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="microseconds"),
        "who": who or user(),
        "where": _process(),
        "why": why,
        "kind": kind,
        "instead_of": number(current) if current else None,
    }
    if kind == PROMOTION:
        client.set_registered_model_alias(model(), CHALLENGER, version)
    client.set_model_version_tag(model(), version, HISTORY, json.dumps([*promotions(candidate), entry]))
    now = alias_state().champion
    if now != entry["instead_of"]:
        # Another machine, or a person by hand: their champion stays.
        client.set_model_version_tag(model(), version, HISTORY, json.dumps(promotions(candidate)))
        message = (
            f"Version {version} of {model()} was to replace champion {entry['instead_of'] or 'none'}; another process "
            f"has made version {now or 'none'} champion meanwhile. That one stays."
        )
        raise ConcurrentPromotionError(message)
    client.set_registered_model_alias(model(), CHAMPION, version)
    _follow_champion()


def _was_promoted_here(version: ModelVersion) -> bool:
    return bool(promotions(version)) and promotions(version)[-1].get("where") == _process()


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def user() -> str:
    """The user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _move(version: str, stage: str) -> None:
    client = MlflowClient()
    # Stages are deprecated in favor of aliases; `mlflow models serve -m models:/kobe_shot/Production` needs one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(model(), version, stage)
        # Not with archive_existing_versions: MLflow compares an integer with a string there, which PostgreSQL rejects.
        for other in in_production() if stage == PRODUCTION else []:
            if number(other) != version:
                client.transition_model_version_stage(model(), number(other), ARCHIVED)
