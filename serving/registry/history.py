"""Past champions: every promotion and rollback, and the champions to which a rollback can return."""

import json

from mlflow.entities.model_registry import ModelVersion

from serving.registry.versions import all_versions, champion, number, passed_gate

PROMOTION, ROLL_BACK = "promotion", "roll back"
"""How a version became champion."""

HISTORY = "promotions"
"""Tag of a version: each of its promotions and rollbacks, as JSON."""

Entry = dict[str, str | None]
"""When, by whom, where, why and how a version became champion, and which version it replaced."""


def promotions(version: ModelVersion) -> list[Entry]:
    """Each time that a version became champion, oldest first: when, who, where, why, kind and instead_of."""
    return list(json.loads(version.tags.get(HISTORY, "[]")))


def champion_history() -> list[str]:
    """The champions in effect that may be used, oldest first: a rollback returns to the last but one.

    A promotion appends a version. A rollback removes all versions after the one that it restores. The alias
    ``champion`` is authoritative: a version that a kill kept from becoming champion, or that a person removed by
    hand, is removed too.
    """
    line: list[str] = []
    for entry, version in _entries():
        _end_with(entry["instead_of"], line)
        if entry.get("kind") != ROLL_BACK or version not in line:
            line.append(version)
        _end_with(version, line)
    current = champion()
    _end_with(number(current) if current else None, line)
    usable = {number(found) for found in all_versions() if passed_gate(found)} | set(line[-1:] if current else [])
    kept = [version for version in line if version in usable]
    return [version for place, version in enumerate(kept) if kept[place - 1 : place] != [version]]


def was_champion(version: str) -> bool:
    """Whether a version became champion, if only for a time."""
    history, current = _entries(), champion()
    after = [entry["instead_of"] for entry, _ in history[1:]] + [number(current) if current else None]
    # A kill can come between the entry and the alias: then the champion after it is the one before it.
    return any(
        found == version and (follower == version or follower != entry["instead_of"])
        for (entry, found), follower in zip(history, after[: len(history)], strict=True)
    )


def _entries() -> list[tuple[Entry, str]]:
    """Every promotion and rollback, with its version, oldest first."""
    entries = [(entry, number(found)) for found in all_versions() for entry in promotions(found)]
    return sorted(entries, key=lambda pair: str(pair[0]["when"]))


def _end_with(version: str | None, line: list[str]) -> None:
    """Let a line end with a version, which a person may have made champion without an entry."""
    if version is None:
        return
    if version not in line:
        line.append(version)
    while line[-1] != version:
        line.pop()
