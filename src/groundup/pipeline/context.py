"""What the builders of stages share: the recipe, where things lie, and the stages finished so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup import stage, tokens
from groundup.errors import GroundupError
from groundup.models import EncoderConfig
from groundup.parallel import Ranks
from groundup.pipeline.instruct_config import InstructConfig
from groundup.pipeline.recipe import Recipe
from groundup.tokens import Tokenizer
from groundup.train.faults import Fault
from groundup.train.guards import StopRequest
from groundup.train.journal import Journal
from groundup.train.watchdog import end_at_once


@dataclass
class Context:
    """One bringing of a recipe to done."""

    recipe: Recipe
    run_folder: Path
    stop: StopRequest
    colour: bool = False
    done: dict[str, stage.Finished] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    """What is to go wrong, in tests."""
    working_on: stage.Stage | None = None
    """The stage that is being brought to done."""
    ranks: Ranks | None = None
    """The processes that train together, where there are several."""
    restart: Mapping[str, Any] | None = None
    """Why they were started again, until it is written down."""
    end: Callable[[GroundupError], Any] = end_at_once
    """How a process ends that cannot return."""
    on_trial: bool = False
    """Whether a phase is only tried, in a folder that goes away: what it trains on was shown when it was run."""
    intact: set[str] = field(default_factory=set)
    """Stages whose files were hashed by this command."""

    @property
    def leads(self) -> bool:
        """Whether this process does what only one can do: all but training."""
        return self.ranks is None or self.ranks.leads

    def tell_restart(self, journal: Journal) -> None:
        """Write down why the ranks of this machine were started again, if nobody has yet."""
        if self.restart is not None:
            world_size = self.ranks.place.world_size if self.ranks is not None else 1
            journal.event("restart", by_any_rank=True, **self.restart, world_size=world_size)
            self.restart = None

    def folder(self, name: str) -> Path:
        """Folder of a finished stage."""
        return self.done[name].path

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer."""
        return Tokenizer.load(self.folder("tokenizer"))

    @property
    def vocab_size(self) -> int:
        """Number of tokens of the run's tokenizer, trained or taken in."""
        return int(self.done["tokenizer"].summary["vocab_size"])

    @property
    def control_tokens(self) -> Sequence[str]:
        """Control tokens that the run's tokenizer has, in order: encoders and turns of tools need some more."""
        more = tokens.ENCODER_TOKENS if isinstance(self.recipe.model, EncoderConfig) else ()
        instruct = self.recipe.instruct
        sources = (*instruct.sources, *instruct.heldout) if instruct is not None else ()
        tools = (tokens.TOOL_TURN,) if any(source.tools == "keep" for source in sources) else ()
        return (*tokens.CONTROL_TOKENS, *tools, *more)

    def instruct(self) -> InstructConfig:
        """The recipe's section of instruction tuning; its stages are listed only where there is one."""
        assert self.recipe.instruct is not None, "stages of instruction tuning are listed only with its section"
        return self.recipe.instruct
