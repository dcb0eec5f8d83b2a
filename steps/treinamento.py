"""Entry point ``treinamento``: train, select by cross-validation, register, and promote what passes the gate."""

from dataclasses import dataclass

from data.cli.console import detail, format_message, info
from data.datasets import current
from data.preparation.manifest import (
    IDS,
    TEST,
    TRAIN,
    Manifest,
    prepared_path,
    read_groups,
    read_ids,
    read_manifest,
    read_prepared,
    require_described,
)
from monitor.store import run_names, tags
from serving import registry
from serving.model.packaging import with_categories
from steps.shared.command import run_command
from steps.shared.data_origin import data_tags, print_synthetic_warning
from steps.shared.tracking import (
    Tags,
    log_records,
    step_run,
)
from steps.training.config import ApprovalConfig, TrainingConfig
from steps.training.promotion import comparison_rows, promote_if_better, promotion_records
from steps.training.selection import ModelSelection, train_and_register
from steps.training.training_set import TrainingData

RUN_NAME = run_names.TRAINING


class TreinamentoConfig(TrainingConfig, ApprovalConfig):
    """Tune models with PyCaret on base_train, select one by cross-validation, register it as kobe_shot."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training: the selection, its version in the registry, and a note on its promotion."""

    selection: ModelSelection
    version: str
    note: str


def run(config: TreinamentoConfig) -> TrainingResult:
    """Train on the prepared tables, in a run with a nested run for each candidate; promote a better version."""
    with registry.rollback_on_failure(), step_run(RUN_NAME, config):
        registry.reconcile()
        training_data = _prepared(read_manifest())
        print_synthetic_warning(synthetic=training_data.is_synthetic)
        challenger, selection = train_and_register(config, training_data)
        compared = comparison_rows(challenger)
        if compared.note:
            info("Compared", compared.note)
            log_records([Tags({tags.COMPARISON_NOTE: compared.note})])
        promotion = promote_if_better(challenger, compared.rows, seed=config.session_id, approval=config.needs_approval)
        log_records(promotion_records(promotion))
        detail(format_message("Registered:", f"{registry.model()} version {challenger.version}; {promotion.note}"))
    why = f": {promotion.gate_result.reason}" if promotion.promoted else ""
    return TrainingResult(selection, challenger.version, f"{promotion.note}{why}")


def _prepared(manifest: Manifest) -> TrainingData:
    raw = {name.partition(".")[0]: digest for name, digest in manifest.provenance.sha256.items()}
    hashes = {f"sha256_{name}": digest for name, digest in {**manifest.sha256, **raw}.items()}
    ids = {name: found for name in IDS if (found := read_ids(manifest, name)) is not None}
    train = read_prepared(manifest, TRAIN)
    require_described(train)
    groups, tested = (read_groups(manifest, name) for name in (TRAIN, TEST))
    test, group = read_prepared(manifest, TEST), current().group
    if group and tested is not None:
        # Intervals and the gate resample groups.
        test = test.assign(**{group.name: tested.to_numpy()})
    return TrainingData(
        train,
        test,
        {name: prepared_path(name) for name in (TRAIN, TEST, *(IDS[name] for name in ids))},
        {**data_tags(manifest.provenance).values, **hashes},
        shot_ids=ids,
        dataset=with_categories(current(), train),
        groups=None if groups is None else groups.to_numpy(),
    )


if __name__ == "__main__":
    run_command(TreinamentoConfig, run)
