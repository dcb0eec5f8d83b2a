"""Register, promote, roll back, revoke and look up the champion; not the files of a version.

The alias ``champion`` and the stage ``Production`` name the same version. `reconcile` makes the stage follow the alias
where a kill came between the two, and `alias_problems` lists manual changes. One process of a machine
changes the registry at a time, whichever command it runs; `promote` and `roll_back` detect the change of another
machine before they move the alias.
"""

from serving.registry.errors import ConcurrentPromotionError, RegistryError, StoreError, translate_store_errors
from serving.registry.history import PROMOTION, ROLL_BACK, champion_history, promotions, was_champion
from serving.registry.lock import change_lock, store_name
from serving.registry.problems import alias_problems, champion_number, report_problems, require_champion
from serving.registry.promotion import (
    archive,
    promote,
    reconcile,
    record_gate_result,
    revoke,
    roll_back,
    rollback_on_failure,
    rollback_target,
)
from serving.registry.versions import (
    ARCHIVED,
    CHALLENGER,
    CHAMPION,
    MODEL,
    MODEL_VARIABLE,
    PASSED,
    PREVIOUS_CHAMPION,
    PRODUCTION,
    REJECTED,
    AliasState,
    alias_state,
    champion,
    created,
    describe,
    model,
    number,
    read_tag,
    register,
    run_of,
    tags_of,
    uri,
    use_model_name,
    versions,
)

__all__ = [
    "ARCHIVED",
    "CHALLENGER",
    "CHAMPION",
    "MODEL",
    "MODEL_VARIABLE",
    "PASSED",
    "PREVIOUS_CHAMPION",
    "PRODUCTION",
    "PROMOTION",
    "REJECTED",
    "ROLL_BACK",
    "AliasState",
    "ConcurrentPromotionError",
    "RegistryError",
    "StoreError",
    "alias_problems",
    "alias_state",
    "archive",
    "champion",
    "champion_history",
    "champion_number",
    "change_lock",
    "created",
    "describe",
    "model",
    "number",
    "promote",
    "promotions",
    "read_tag",
    "reconcile",
    "record_gate_result",
    "register",
    "report_problems",
    "require_champion",
    "revoke",
    "roll_back",
    "rollback_on_failure",
    "rollback_target",
    "run_of",
    "store_name",
    "tags_of",
    "translate_store_errors",
    "uri",
    "use_model_name",
    "versions",
    "was_champion",
]
