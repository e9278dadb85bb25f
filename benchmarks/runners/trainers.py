"""transformers' Trainer, or one built on it: a session says how fast the rate falls, and is told of each step."""

from __future__ import annotations

from typing import Any

import transformers
from torch.optim.lr_scheduler import LambdaLR


class Steps(transformers.TrainerCallback):
    """Tells the session of every step."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.session.total_steps = state.max_steps
        self.session.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.session.after_step()


class Scheduled:
    """Before a Trainer among the bases of a class: it has the session's schedule, and prints nothing."""

    def __init__(self, session: Any, **options: Any) -> None:
        self.session = session
        super().__init__(callbacks=[Steps(session)], **options)
        self.remove_callback(transformers.PrinterCallback)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule that all tools have."""
        self.session.total_steps = num_training_steps
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, self.session.factor)
        return self.lr_scheduler
