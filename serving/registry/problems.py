"""Whether the alias ``champion`` and the stage ``Production`` name a usable version, and what to do where not."""

from mlflow.entities.model_registry import ModelVersion

from data.cli.console import info
from data.datasets import for_dataset
from serving.registry.errors import RegistryError
from serving.registry.history import champion_history
from serving.registry.versions import (
    CHAMPION,
    PRODUCTION,
    approval_command,
    awaiting_approval,
    champion,
    in_production,
    model,
    number,
    passed_gate,
    reason_not_passed,
)


def require_champion() -> ModelVersion:
    """The champion.

    Raises
    ------
    RegistryError
        If there is none, or a person gave the alias to a version that has not passed the gate.
    """
    version = champion()
    if version is None:
        raise RegistryError(_no_champion(champion_history()))
    if not passed_gate(version):
        raise RegistryError(_not_passed(version))
    return version


def champion_number() -> str:
    """Number of the champion; see `require_champion`."""
    return number(require_champion())


def alias_problems() -> list[str]:
    """What is wrong with the versions that the alias ``champion`` and the stage ``Production`` name, and the remedy.

    The list is empty unless one of them was changed by hand, or a command was killed while it moved both.
    """
    version, production = champion(), sorted(number(found) for found in in_production())
    named = number(version) if version else None
    if version and not passed_gate(version):
        return [_not_passed(version)]
    line = [] if version or production else champion_history()
    if line:
        return [_no_champion(line)]
    if set(production) <= {named} and (production or not version):
        return []
    held, names = " and ".join(production) or "none", f"version {named}" if version else "none"
    found = (
        f"The stage {PRODUCTION} holds version {held}, and the alias {CHAMPION} names {names}: only one of them was "
        "changed by hand, or a command was killed. `mlflow models serve` uses the stage, all else the alias."
    )
    if version:
        remedy = f"The next training, decision, batch scoring or rollback moves the stage: {_command('aplicacao')}"
    else:
        remedy = f"Restore the alias: {_command('reverter')} -P version={production[-1]}"
    return [f"{found} {remedy}"]


def report_problems() -> None:
    """Print what `alias_problems` finds."""
    for problem in alias_problems():
        info("Registry:", problem, style="bold yellow")


def _command(entry_point: str) -> str:
    return for_dataset(f"mlflow run . -e {entry_point}")


def _no_champion(line: list[str]) -> str:
    if not line and (waiting := awaiting_approval()):
        return (
            f"{model()} has no champion yet: version {number(waiting[0])} passed the gate and waits for the approval "
            f"of a person. Approve it: {approval_command(number(waiting[0]))}"
        )
    if line:
        return (
            f"{model()} has no champion: a person has removed the alias {CHAMPION}, or deleted its version. Restore "
            f"version {line[-1]}: {_command('reverter')}; or train another: {_command('treinamento')}"
        )
    return f"{model()} has no champion yet: no version has passed the gate. Train one: {_command('treinamento')}"


def _not_passed(version: ModelVersion) -> str:
    line = champion_history()
    restore = f"Restore version {line[-2]}: {for_dataset('make roll-back')}" if len(line) > 1 else ""
    remedy = restore or f"Train another: {_command('treinamento')}"
    return (
        f"The alias {CHAMPION} of {model()} names version {number(version)}, which has not passed the gate "
        f"({reason_not_passed(version)}): it was set by hand. {remedy}; or move the alias to a version that "
        "has passed the gate."
    )
