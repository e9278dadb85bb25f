"""The composition root: the recipe and the list of its stages, in order."""

from groundup.pipeline.explain import explain
from groundup.pipeline.instruct_config import InstructConfig
from groundup.pipeline.pretrain_config import PretrainConfig
from groundup.pipeline.proof import Proof, prove_resume
from groundup.pipeline.recipe import Recipe, RuntimeConfig
from groundup.pipeline.recipe_file import anchored, load_recipe
from groundup.pipeline.run import VERBS, RunResult, instruct, prepare, pretrain, run, run_folder, status, workdir

__all__ = [
    "VERBS",
    "InstructConfig",
    "PretrainConfig",
    "Proof",
    "Recipe",
    "RunResult",
    "RuntimeConfig",
    "anchored",
    "explain",
    "instruct",
    "load_recipe",
    "prepare",
    "pretrain",
    "prove_resume",
    "run",
    "run_folder",
    "status",
    "workdir",
]
