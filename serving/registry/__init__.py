"""Register, judge, promote, roll back, revoke and resolve the champion; not what is in a version's files.

The alias ``champion`` and the stage ``Production`` name the same version. The alias is the truth and moves first;
`reconcile` lets the stage follow where a kill came between the two. `alias_problems` says what a person has moved by
hand. Changes are made one at a time on a machine, whichever command makes them; another machine's is noticed before
the alias moves.
"""

import contextlib
import getpass
import json
import os
import re
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from data.cli.console import info
from data.errors import FileError, KobeShotError, is_of_file_system
from data.storage.locks import AlreadyRunningError, single_instance
from data.storage.urls import sqlite_path, sqlite_url
from serving.model.manifest import FILES, FILES_SHA256, RECORDED_FROM
from serving.registry.gate import GateResult
from serving.registry.sqlite_store import wait_for_locks

MODEL = "kobe_shot"
"""Name of the registered model, unless ``$KOBE_SHOT_MODEL`` says otherwise; see `model`."""
MODEL_VARIABLE = "KOBE_SHOT_MODEL"
CHAMPION, PREVIOUS_CHAMPION, CHALLENGER = "champion", "previous_champion", "challenger"
PRODUCTION, ARCHIVED = "Production", "Archived"
PROMOTION, ROLL_BACK = "promotion", "roll back"
"""How a version became champion."""

_LONGEST_NAME = 200
# What MLflow refuses in a name, and what its addresses and searches would read as something else.
_NAME = re.compile(rf"(?!\s)[^/:'?#%\x00-\x1f\x7f]{{1,{_LONGEST_NAME}}}(?<!\s)")

_SQL = re.compile(r"\[SQL:|\(Background on this error")
_DAMAGED = ("file is not a database", "disk image is malformed")
_GATE, _GATE_REASON, _HISTORY, _TAKEN_BACK = "gate", "gate_reason", "promotions", "taken_back"
_PASSED, _REFUSED, _UNUSABLE = "passed", "refused", "taken back"
_ARCHIVED_BECAUSE = "archived_because"

_LOCK_WAIT_SECONDS = 60.0
"""How long a change waits for that of another process of this machine; a change takes a second."""
_held = threading.local()

# Before MLflow opens a store: whoever works on one has imported this module.
wait_for_locks()


class RegistryError(KobeShotError):
    """The registry holds nothing to use, or a version may not be used."""


class ConcurrentPromotionError(RegistryError):
    """Another process has changed the champion since this one looked."""


class StoreError(KobeShotError):
    """The tracking store or the registry does not do what was asked of it."""


def model() -> str:
    """Name of the registered model that this process works on.

    Raises
    ------
    RegistryError
        If no registered model can have this name.

    Examples
    --------
    >>> with use_model_name("another"):
    ...     model()
    'another'
    """
    name = os.environ.get(MODEL_VARIABLE) or MODEL
    if not _NAME.fullmatch(name) or set(name) == {"."}:
        message = (
            f"{MODEL_VARIABLE}: expected the name of a registered model, at most {_LONGEST_NAME} characters, without "
            f"/ : ' ? # % and with no space at either end; found {name!r}. Nothing was done."
        )
        raise RegistryError(message)
    return name


@contextlib.contextmanager
def use_model_name(name: str) -> Iterator[None]:
    """Work on another registered model until the block ends, this process and those that it starts."""
    before = os.environ.get(MODEL_VARIABLE)
    os.environ[MODEL_VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[MODEL_VARIABLE]
        else:
            os.environ[MODEL_VARIABLE] = before


@contextlib.contextmanager
def translate_store_errors() -> Iterator[None]:
    """Say which store it was that failed.

    Raises
    ------
    StoreError
        In place of what MLflow or its database raises.
    FileError
        In place of an error of the file system.
    """
    try:
        yield
    except (OSError, MlflowException, SQLAlchemyError) as error:
        if is_of_file_system(error) and not _is_of_the_store(error):
            raise FileError.of(error) from error
        # What the database was asked, and where its library is documented, says nothing to who reads this.
        reason = " ".join(_SQL.split(str(error))[0].split())
        message = f"{type(error).__name__}: {reason} (tracking store {mlflow.get_tracking_uri()})"
        if any(sign in reason for sign in _DAMAGED):
            message = (
                f"Expected the database of an MLflow store at {mlflow.get_tracking_uri()}; found a damaged file "
                f"({reason}). Put a copy of it back, or move it away to begin anew with an empty store."
            )
        if isinstance(error, MlflowException) and error.error_code == "PERMISSION_DENIED":
            account = os.environ.get("MLFLOW_TRACKING_USERNAME", "in use")
            message += f". The account {account} may not do this there: use one that may, or ask the server's admin"
        raise StoreError(message) from error


def _is_of_the_store(error: OSError) -> bool:
    """Whether it is the file of the tracking store, or a folder above it, that cannot be used."""
    store = sqlite_path(mlflow.get_tracking_uri())
    return store is not None and error.filename is not None and Path(error.filename) in {store, *store.parents}


def register(model_uri: str, run_id: str, tags: Mapping[str, str], description: str) -> str:
    """Register a logged model as a new version of ``kobe_shot``; nothing is promoted.

    Parameters
    ----------
    model_uri : str
        ``models:/m-…`` of the logged model.
    run_id : str
        Run that trained it.
    tags : mapping of str to str
        Where the version comes from. The SHA-256 of its files, which the logged model has, are added.
    description : str
        What this model is, in Markdown, in at most 5,000 characters.

    Returns
    -------
    str
        Number of the version.
    """
    client, model_id = MlflowClient(), model_uri.removeprefix("models:/")
    logged = client.get_logged_model(model_id).tags
    if not _registered():
        client.create_registered_model(model(), description="P(made) of a shot of Kobe Bryant.")
    version = number(
        client.create_model_version(
            model(),
            model_uri,
            run_id=run_id,
            tags={**tags, **{name: logged[name] for name in (FILES, FILES_SHA256) if name in logged}},
            description=description,
            # A tracking server takes no model of another run than it is told.
            model_id=model_id,
        )
    )
    if FILES_SHA256 in logged and RECORDED_FROM not in client.get_registered_model(model()).tags:
        client.set_registered_model_tag(model(), RECORDED_FROM, version)
    return version


def versions() -> list[str]:
    """Numbers of all versions, oldest first."""
    return sorted((number(found) for found in _versions()), key=int)


def describe(version: str, description: str) -> None:
    """Replace the description of a version."""
    MlflowClient().update_model_version(model(), version, description)


def store_name() -> str:
    """The tracking store by one name, wherever it is looked at from."""
    address: str = mlflow.get_tracking_uri()
    path = sqlite_path(address)
    return sqlite_url(path.resolve()) if path else address.replace("localhost", "127.0.0.1")


@contextlib.contextmanager
def changing() -> Iterator[None]:
    """Change the registry, and be the only process of this machine and user that does, until the block ends.

    A block within a block is part of the same change.

    Raises
    ------
    RegistryError
        If another process is still at a change after a minute.
    """
    key, keys = f"{store_name()} {model()}", _held.__dict__.setdefault("keys", set())
    if key in keys:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(single_instance(f"a change of {model()}", key, wait_seconds=_LOCK_WAIT_SECONDS))
        except AlreadyRunningError as error:
            message = (
                f"{error} Champion and Production are as that process leaves them. Run this again when it is done."
            )
            raise RegistryError(message) from error
        keys.add(key)
        stack.callback(keys.discard, key)
        yield


@changing()
def record_gate_result(version: str, verdict: GateResult) -> None:
    """Write what the gate said on a version, whichever way it went; nothing is promoted."""
    client = MlflowClient()
    client.set_model_version_tag(model(), version, _GATE_REASON, verdict.reason)
    for name, value in verdict.figures().items():
        client.set_model_version_tag(model(), version, f"gate_{name}", f"{value:.6f}")
    client.set_model_version_tag(model(), version, _GATE, _PASSED if verdict.passed else _REFUSED)


@changing()
def promote(version: str, why: str, *, instead_of: str | None = None) -> None:
    """Make a version that passed the gate the champion, and Production.

    Parameters
    ----------
    version : str
        Number of a version that `record_gate_result` has written on.
    why : str
        Kept in the history of the version, with who, when and where.
    instead_of : str, optional
        The champion that the version was compared with, empty for none; it must still be so.

    Raises
    ------
    OvertakenError
        If another version has become champion since.
    RegistryError
        If the version has not passed the gate. Champion and Production stay as they were in either case.
    """
    found = standing().champion or ""
    if instead_of is not None and found != instead_of:
        before, now = (f"version {name}" if name else "none" for name in (instead_of, found))
        message = f"Version {version} of {model()} was compared with champion {before}; the champion is now {now}."
        raise ConcurrentPromotionError(message)
    _crown(version, why, PROMOTION)


@changing()
def roll_back(reason: str, version: str = "", *, instead_of: str | None = None) -> str:
    """Make an earlier champion the champion, and Production, again.

    Parameters
    ----------
    reason : str
        Kept in the history of the version that comes back.
    version : str
        See `rollback_target`.
    instead_of : str, optional
        The champion that is to go, empty for none; it must still be so.

    Returns
    -------
    str
        Number of the version that is champion now.

    Raises
    ------
    OvertakenError
        If another version has become champion since.
    RegistryError
        If there is no version to go back to, or it may not be used; champion and Production stay as they were.
    """
    found = standing().champion or ""
    if instead_of is not None and found != instead_of:
        before, now = (f"version {name}" if name else "none" for name in (instead_of, found))
        message = (
            f"When this roll back began, the champion of {model()} was {before}; another command has changed that, and "
            f"it is now {now}. Nothing was changed. See what happened (make history), and roll back again if need be."
        )
        raise ConcurrentPromotionError(message)
    target = rollback_target(version)
    _crown(target, reason, ROLL_BACK)
    return target


def rollback_target(version: str = "") -> str:
    """The version that a roll back would make champion.

    Parameters
    ----------
    version : str
        Its number; empty for the one before the champion. Done twice, that is the one before that one.

    Raises
    ------
    RegistryError
        If there is none, it has not passed the gate, or it is the champion.
    """
    line, current = champion_history(), champion()
    before = line[:-1] if current else line
    if not version:
        if not before:
            message = f"{model()} has no previous champion to go back to: no champion has followed another yet."
            raise RegistryError(message)
        return before[-1]
    known = {number(found): found for found in _versions()}
    if version not in known:
        message = f"{model()} has no version {version}; expected one of {', '.join(sorted(known, key=int)) or 'none'}."
        raise RegistryError(message)
    if current and number(current) == version:
        message = f"Version {version} of {model()} is the champion already."
        raise RegistryError(message)
    _require_passed(known[version])
    return version


def champion_history() -> list[str]:
    """The champions that are not undone and may be used, oldest first: a roll back goes to the one before the last.

    A promotion adds to it. A roll back takes away all that came after the version that came back. The alias
    ``champion`` is the truth: what a kill kept from becoming champion, or a person undid by hand, is taken away too.
    """
    line: list[str] = []
    for entry, version in _history():
        _go_to(entry["instead_of"], line)
        if entry.get("kind") != ROLL_BACK or version not in line:
            line.append(version)
        _go_to(version, line)
    current = champion()
    _go_to(number(current) if current else None, line)
    usable = {number(found) for found in _versions() if _passed_gate(found)} | set(line[-1:] if current else [])
    kept = [version for version in line if version in usable]
    return [version for place, version in enumerate(kept) if kept[place - 1 : place] != [version]]


def _go_to(version: str | None, line: list[str]) -> None:
    """Let a line end at a version, which somebody may have made champion without a word."""
    if version is None:
        return
    if version not in line:
        line.append(version)
    while line[-1] != version:
        line.pop()


def was_champion(version: str) -> bool:
    """Whether a version became champion, if only for a time."""
    history, current = _history(), champion()
    after = [entry["instead_of"] for entry, _ in history[1:]] + [number(current) if current else None]
    # A kill can come between the entry and the alias: then the champion after it is the one before it.
    return any(
        found == version and (follower == version or follower != entry["instead_of"])
        for (entry, found), follower in zip(history, after[: len(history)], strict=True)
    )


def _history() -> list[tuple[dict[str, str | None], str]]:
    """Every promotion and roll back, with its version, oldest first."""
    entries = [(entry, number(found)) for found in _versions() for entry in promotions(found)]
    return sorted(entries, key=lambda pair: str(pair[0]["when"]))


@changing()
def archive(version: str, reason: str) -> None:
    """Put away a version that did not become champion, with the reason; champion and Production stay as they are."""
    client = MlflowClient()
    client.set_model_version_tag(model(), version, _ARCHIVED_BECAUSE, reason[:5000])
    if (named := _aliased(CHALLENGER)) and number(named) == version:
        client.delete_registered_model_alias(model(), CHALLENGER)
    _move(version, ARCHIVED)


def promotions(version: ModelVersion) -> list[dict[str, str | None]]:
    """When, by whom, where, why and instead of which version a version became champion, oldest first."""
    return list(json.loads(version.tags.get(_HISTORY, "[]")))


def created() -> str:
    """When the registered model was created, in milliseconds; empty where there is none.

    One that was deleted and made anew has another past.
    """
    found = MlflowClient().search_registered_models(filter_string=f"name = '{model()}'")
    return str(found[0].creation_timestamp) if found else ""


def tags_of(version: str) -> dict[str, str]:
    """Tags of a version; none where there is no such version."""
    return next((dict(found.tags) for found in _versions() if number(found) == version), {})


def run_of(version: str) -> str:
    """Id of the run that trained a version; empty where there is no such version."""
    return next((str(found.run_id) for found in _versions() if number(found) == version), "")


def version_tagged(name: str, value: str) -> ModelVersion | None:
    """The newest version that has a tag of a value, or None."""
    found = [version for version in _versions() if version.tags.get(name) == value]
    return max(found, key=lambda version: int(version.version), default=None)


def number(version: ModelVersion) -> str:
    """The version's number; MLflow gives an int or a str, depending on the store."""
    return str(version.version)


def champion() -> ModelVersion | None:
    """The version that the alias ``champion`` names, with its tags, or None."""
    return _aliased(CHAMPION)


def usable_champion() -> ModelVersion | None:
    """The champion, or None where there is none or the alias names a version that has not passed the gate."""
    version = champion()
    return version if version and _passed_gate(version) else None


def require_champion() -> ModelVersion:
    """The champion.

    Raises
    ------
    RegistryError
        If there is none, or somebody gave the alias to a version that has not passed the gate.
    """
    version = champion()
    if version is None:
        raise RegistryError(_no_champion(champion_history()))
    if not _passed_gate(version):
        raise RegistryError(_not_passed(version))
    return version


@dataclass(frozen=True)
class AliasState:
    """Which versions the aliases name, None where an alias is not set, and which are in Production."""

    champion: str | None
    previous_champion: str | None
    production: frozenset[str]


def standing() -> AliasState:
    """What the aliases name, and what is in Production, now."""
    first, second = (_aliased(alias) for alias in (CHAMPION, PREVIOUS_CHAMPION))
    return AliasState(
        number(first) if first else None,
        number(second) if second else None,
        frozenset(number(version) for version in _in_production()),
    )


@contextlib.contextmanager
def rollback_on_failure() -> Iterator[None]:
    """Put champion and Production back when the block fails, if it was this process that moved them."""
    before = standing()
    try:
        yield
    except BaseException as error:
        with changing():
            now = champion()
            if now and number(now) != before.champion and _promoted_here(now):
                _restore(before, now, f"what followed its promotion failed: {type(error).__name__}: {error}")
        raise


def alias_problems() -> list[str]:
    """What is wrong with where the alias ``champion`` and the stage ``Production`` point, and what to do, in words.

    Nothing is, unless a person has moved one of them by hand, or a command was killed while it moved both.
    """
    version, production = champion(), sorted(number(found) for found in _in_production())
    named = number(version) if version else None
    if version and not _passed_gate(version):
        return [_not_passed(version)]
    line = [] if version or production else champion_history()
    if line:
        return [_no_champion(line)]
    if set(production) <= {named} and (production or not version):
        return []
    held, names = " and ".join(production) or "none", f"version {named}" if version else "none"
    what = (
        f"The stage {PRODUCTION} holds version {held}, and the alias {CHAMPION} names {names}: somebody has moved one "
        "of them alone, or a command was killed. `mlflow models serve` takes the stage, all else the alias."
    )
    if version:
        mend = "The next training, decision, scoring or roll back lets the stage follow: mlflow run . -e aplicacao"
    else:
        mend = f"Give the alias back: mlflow run . -e reverter -P version={production[-1]}"
    return [f"{what} {mend}"]


def tell_problems() -> None:
    """Say on the console what `alias_problems` finds."""
    for problem in alias_problems():
        info("Registry:", problem, style="bold yellow")


def _no_champion(line: list[str]) -> str:
    if line:
        return (
            f"{model()} has no champion: somebody has taken the alias {CHAMPION} away, or deleted its version. Put "
            f"version {line[-1]} back: mlflow run . -e reverter; or train another: mlflow run . -e treinamento"
        )
    return f"{model()} has no champion yet: no version has passed the gate. Train one: mlflow run . -e treinamento"


def _not_passed(version: ModelVersion) -> str:
    line = champion_history()
    back = (
        f"Put version {line[-2]} back: make roll-back"
        if len(line) > 1
        else "Train another: mlflow run . -e treinamento"
    )
    reason = version.tags.get(_TAKEN_BACK) or version.tags.get(_GATE_REASON, "it was never judged")
    return (
        f"The alias {CHAMPION} of {model()} names version {number(version)}, which has not passed the gate ({reason}): "
        f"somebody has moved it by hand. {back}; or move the alias to a version that has passed it."
    )


def reconcile() -> None:
    """Let all else follow the alias ``champion``, wherever a kill came between, and say what was not as it should be.

    Production holds the champion alone, or, where there is none that passed the gate, nothing that has not;
    ``previous_champion`` names where a roll back goes; a challenger that became champion is none.
    """
    with changing():
        tell_problems()
        _follow_alias()


def _follow_alias() -> None:
    version = champion()
    if version and _passed_gate(version):
        if {number(found) for found in _in_production()} != {number(version)}:
            _move(number(version), PRODUCTION)
    else:
        for found in _in_production():
            if not _passed_gate(found):
                _move(number(found), ARCHIVED)
    line = champion_history()
    _point(PREVIOUS_CHAMPION, line[-2] if version and len(line) > 1 else None)
    challenger = _aliased(CHALLENGER)
    if challenger and version and number(challenger) == number(version):
        _point(CHALLENGER, None)


def _point(alias: str, version: str | None) -> None:
    named = _aliased(alias)
    if (number(named) if named else None) == version:
        return
    if version:
        MlflowClient().set_registered_model_alias(model(), alias, version)
    else:
        MlflowClient().delete_registered_model_alias(model(), alias)


def _crown(version: str, why: str, kind: str) -> None:
    client = MlflowClient()
    crowned = client.get_model_version(model(), version)
    _require_passed(crowned)
    current = champion()
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="microseconds"),
        "who": _user(),
        "where": _process(),
        "why": why,
        "kind": kind,
        "instead_of": number(current) if current else None,
    }
    if kind == PROMOTION:
        client.set_registered_model_alias(model(), CHALLENGER, version)
    client.set_model_version_tag(model(), version, _HISTORY, json.dumps([*promotions(crowned), entry]))
    now = standing().champion
    if now != entry["instead_of"]:
        # Another machine, or a person by hand: their champion stays.
        client.set_model_version_tag(model(), version, _HISTORY, json.dumps(promotions(crowned)))
        message = (
            f"Version {version} of {model()} was to take the place of champion {entry['instead_of'] or 'none'}; "
            f"somebody else has made version {now or 'none'} champion meanwhile. That one stays."
        )
        raise ConcurrentPromotionError(message)
    client.set_registered_model_alias(model(), CHAMPION, version)
    _follow_alias()


def _restore(before: AliasState, undone: ModelVersion, reason: str) -> None:
    client = MlflowClient()
    # First the version loses its pass: whenever a kill comes from here on, `reconcile` takes it out of Production.
    client.set_model_version_tag(model(), number(undone), _GATE, _UNUSABLE)
    client.set_model_version_tag(model(), number(undone), _TAKEN_BACK, reason[:5000])
    _point(CHAMPION, before.champion)
    _follow_alias()
    for version in before.production - {number(found) for found in _in_production()}:
        _move(version, PRODUCTION)


def _versions() -> list[ModelVersion]:
    return list(MlflowClient().search_model_versions(f"name = '{model()}'"))


def _in_production() -> list[ModelVersion]:
    return [version for version in _versions() if version.current_stage == PRODUCTION]


def _passed_gate(version: ModelVersion) -> bool:
    return bool(version.tags.get(_GATE) == _PASSED)


def _require_passed(version: ModelVersion) -> None:
    if not _passed_gate(version):
        reason = version.tags.get(_TAKEN_BACK) or version.tags.get(_GATE_REASON, "it was never judged")
        message = f"Version {number(version)} of {model()} did not pass the gate and is not promoted: {reason}."
        raise RegistryError(message)


def _promoted_here(version: ModelVersion) -> bool:
    return bool(promotions(version)) and promotions(version)[-1].get("where") == _process()


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _aliased(alias: str) -> ModelVersion | None:
    try:
        return MlflowClient().get_model_version_by_alias(model(), alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        # A server with accounts denies all but its admin what does not exist.
        if error.error_code == "PERMISSION_DENIED" and not _registered():
            return None
        raise


def _registered() -> bool:
    return bool(MlflowClient().search_registered_models(filter_string=f"name = '{model()}'"))


def _move(version: str, stage: str) -> None:
    client = MlflowClient()
    # Stages are deprecated in favour of aliases; `mlflow models serve -m models:/kobe_shot/Production` needs one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(model(), version, stage)
        # Not with archive_existing_versions: MLflow compares a number with a text there, which PostgreSQL refuses.
        for other in _in_production() if stage == PRODUCTION else []:
            if number(other) != version:
                client.transition_model_version_stage(model(), number(other), ARCHIVED)
