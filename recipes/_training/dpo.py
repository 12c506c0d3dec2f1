"""DPO through TRL, on ids that DSPA's own rendering made."""

from typing import Any

from trl.trainer.dpo_trainer import DPOTrainer


class IdsDPOTrainer(DPOTrainer):
    """TRL's trainer on rows of `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        # TRL would tokenise text; these are the very ids that maps are fitted on.
        return dataset
