"""The command that reproduces a version, from the parameters and tags of its runs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from data.acquisition.provenance import Provenance
from data.errors import TableError
from data.preparation.manifest import MANIFEST, TRAIN
from monitor.store import commands, run_names
from monitor.store import tags as store_tags
from monitor.store.commands import given
from monitor.store.model_store import current_store
from monitor.store.records import RunInfo

_SYNTHETIC = ("synthetic_rows", "synthetic_seed")


@dataclass(frozen=True)
class Reproduction:
    """How a version is reproduced.

    Attributes
    ----------
    command : str
        For a shell.
    remarks : tuple of str
        Its preconditions, and what is unknown, as Markdown.
    source_url : str
        Source of the raw files; empty where it is unknown.
    unknown : tuple of str
        Parameters that the command lacks, because the runs that hold them are missing.
    """

    command: str
    remarks: tuple[str, ...]
    source_url: str
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Origin:
    """The parameters of the tables that a version was trained on, and the source of the raw files."""

    values: dict[str, str]
    source_url: str
    unknown: tuple[str, ...]


def reproduction(run_id: str, tags: Mapping[str, str], training: Mapping[str, object]) -> Reproduction:
    """How to reproduce the version of a run.

    Parameters
    ----------
    run_id : str
        Run of the training.
    tags : mapping of str to str
        Of the version: the SHA-256 of its training files, and the state of the code.
    training : mapping of str to object
        The parameters of the training.
    """
    root = _outermost(run_id)
    origin = _origin(tags)
    entry_point, values = "main", {**origin.values, **{name: str(value) for name, value in training.items()}}
    if root.name == run_names.BACKTEST:
        entry_point, values = "operacao", {**given(root.params), **origin.values}
    elif root.name == run_names.RETRAINING:
        decided = root.tags.get(store_tags.DECIDED_AT, "")
        as_of = "now" if "now" in root.params else "as_of"  # a run of 0.1.0, whose commit the command checks out
        entry_point, values = "retreino", {**given(root.params), "mode": "force", as_of: decided}
    command = commands.command(entry_point, values, root.tags.get(store_tags.REGISTERED_MODEL, ""))
    commit = tags.get(store_tags.GIT_COMMIT, store_tags.UNKNOWN)
    if commit != "unknown":
        command = f"git checkout {commit} && {command}"
    unknown = () if entry_point == "retreino" else origin.unknown
    return Reproduction(command, tuple(_remarks(tags, root, entry_point, unknown)), origin.source_url, unknown)


def _outermost(run_id: str) -> RunInfo:
    store = current_store()
    run = store.run(run_id)
    while run.parent:
        above = store.run(run.parent)
        if store_tags.LAUNCHER_OF in above.tags:
            return run
        run = above
    return run


def _origin(tags: Mapping[str, str]) -> _Origin:
    digest = store_tags.development_sha256(tags)
    held = f"params.sha256_{TRAIN} = '{digest}'"
    found = current_store().find_runs(run_names.PREPARATION, held, limit=1) if digest.isalnum() else []
    provenance = _provenance(found[0].run_id) if found else None
    if provenance is None:
        return _Origin({}, "", ("source", "test_size", "seed"))
    values = given(found[0].params)
    acquired = _acquisition(provenance)
    if acquired.get("source", "auto") != "auto":
        source = acquired["source"]
    elif not provenance.is_synthetic:
        source = provenance.location
    elif acquired:
        # The public files could not be downloaded then.
        source = "synthetic"
    else:
        return _Origin(values, provenance.location, ("source", *_SYNTHETIC))
    return _Origin({**values, **acquired, "source": source}, provenance.location, ())


def _provenance(run_id: str) -> Provenance | None:
    """The provenance of the raw files of a preparation, or None where its run does not hold it any more."""
    try:
        path = current_store().artifact(run_id, f"tables/{MANIFEST.name}")
        return Provenance.from_record(json.loads(path.read_text(encoding="utf-8"))["provenance"])
    except (TableError, OSError, KeyError, TypeError, ValueError):
        return None


def _acquisition(provenance: Provenance) -> dict[str, str]:
    """The parameters of the latest run that acquired these files; empty where there is none."""
    held = " and ".join(
        f"tags.sha256_{name.partition('.')[0]} = '{digest}'" for name, digest in provenance.sha256.items()
    )
    found = current_store().find_runs(run_names.ACQUISITION, held, limit=1)
    return given(found[0].params) if found else {}


def _remarks(tags: Mapping[str, str], root: RunInfo, entry_point: str, unknown: tuple[str, ...]) -> Iterator[str]:
    if entry_point == "retreino":
        champion = root.tags.get(store_tags.CHAMPION, store_tags.UNKNOWN)
        yield (
            f"It trains the same model while version {champion} is champion and the labels are the same. Run it in a "
            "copy of the store: it registers a version, and promotes it if it is better. The training files "
            "are artifacts of its run, under `tables`."
        )
    elif entry_point == "operacao":
        yield "This repeats the whole backtest, and recreates its registered model."
    else:
        yield (
            "`base_train` must get the same SHA-256, and the test metrics the same values; `source` may be any path "
            "that holds the same raw files."
        )
    if unknown:
        yield (
            f"Unknown, because the runs that hold them are missing: {', '.join(f'`{name}`' for name in unknown)}. The "
            "command takes the defaults; the right values give files of the same SHA-256."
        )
    if tags.get(store_tags.GIT_COMMIT, store_tags.UNKNOWN) == "unknown":
        yield "The Git commit of the code is unknown."
    elif tags.get(store_tags.GIT_DIRTY) != "false":
        yield "Files differed from that commit when it was trained, or that is unknown: the commit does not hold them."
