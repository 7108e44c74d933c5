"""The step hook that lets the id dropout of item towers fall to 0 over a stage, and no other dropout."""

from __future__ import annotations

from moerec.models.item_tower import ItemTower
from moerec.training.hooks import Hook, Moment


class AnnealedIdDropout(Hook):
    """Sets each tower's share of hidden ids before an update; it hangs on the update's number alone, so a resumed run
    hides as many as one that was never killed."""

    def before_step(self, moment: Moment) -> None:
        """From the whole share at the stage's first update in equal steps to 0 after its last."""
        left = 1 - moment.update / moment.total_updates
        for module in moment.model.modules():
            if isinstance(module, ItemTower) and module.config.id_dropout_anneal:
                module.id_dropout.fill_(module.config.id_dropout * left)
