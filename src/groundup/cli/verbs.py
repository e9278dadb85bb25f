"""The table of verbs: how each is used, what it says of itself, what it does."""

from __future__ import annotations

from groundup.cli import asking, inspecting, stages, writing
from groundup.cli.parser import Verb

_RECIPE = "RECIPE [key.path=value ...]"


VERBS: dict[str, Verb] = {
    "run": Verb(_RECIPE, "every stage of the recipe, in order, then the report", stages.run, trains=True),
    "prepare": Verb(
        f"{_RECIPE} [--explain DOCUMENT_ID]",
        "raw text to clean documents, tokenizer, shards and conversations; or what happened to one record",
        stages.prepare,
        stages.prepare_options,
    ),
    "pretrain": Verb(_RECIPE, "up to and including training on text", stages.run, trains=True),
    "instruct": Verb(_RECIPE, "up to and including instruction tuning", stages.run, trains=True),
    "task": Verb(_RECIPE, "up to and including training an encoder for a task", stages.run, trains=True),
    "evaluate": Verb(
        "RECIPE|MODEL [key.path=value ...] [--tasks FILE] [--text FILE] [--output FOLDER]",
        "up to and including evaluation; or a model as it is, on tasks and texts",
        stages.evaluate,
        stages.evaluate_options,
        trains=True,
    ),
    "compare": Verb(
        "TARGET TARGET [--prompts FILE] [--out FILE] [--judge URL --judge-model NAME]",
        "two models on the same prompts: a page of both answers, differences with errors, a judge's verdicts",
        asking.compare,
        asking.compare_options,
    ),
    "convert": Verb(
        "FORM FILE [FILE ...] OUTPUT [--turns] [--no-answer TEXT]",
        "public data (forms: squad, parallel, dialogues) to JSON lines that recipes read",
        writing.convert,
        writing.convert_options,
    ),
    "export": Verb(_RECIPE, "up to and including the Hugging Face folder", stages.run, trains=True),
    "generate": Verb(
        'TARGET "text"',
        "go on with a text; TARGET is a recipe, run or model folder",
        asking.generate,
        asking.generate_options,
    ),
    "predict": Verb(
        'TARGET [--text "text" ... | --file FILE] [--pair "text"] [--text-field F] [--pair-field F]',
        "what a model of a task says of texts or pairs: label, words, number or answer; here, from a file or stdin",
        asking.predict,
        asking.predict_options,
    ),
    "chat": Verb(
        'TARGET ["question" ...]',
        "ask the model: here, from stdin, or in a conversation",
        asking.chat,
        asking.chat_options,
    ),
    "report": Verb("RECIPE|RUN", "write a run's report.html again, finished or not", writing.report),
    "import": Verb(
        "MODEL FOLDER [key=value ...] [--tokenizer PATH] [--chat-template auto|own] [--adapter FOLDER]",
        "a Hugging Face folder or .gguf file to a model folder of ours",
        writing.import_model,
        writing.import_options,
    ),
    "show": Verb(
        f"{_RECIPE} [--model]",
        "the resolved recipe, and each stage's state and folder; or the parts of its model",
        inspecting.show_recipe,
        inspecting.show_options,
    ),
    "verify": Verb(
        "PATH|RECIPE [--hashes-only]",
        "re-hash a stage, checkpoint, model or run; print one state hash; of a run, prove that it resumes to the bit",
        inspecting.verify,
        inspecting.verify_options,
    ),
    "tokenizer": Verb(
        "TARGET [FILE ...]",
        "how a tokenizer cuts --text, and how many tokens files need",
        inspecting.show_tokenizer,
        inspecting.tokenizer_options,
    ),
    "doctor": Verb("", "what this machine offers, what is missing, and the line that mends it", inspecting.doctor),
    "deploy": Verb(
        f"{_RECIPE} --for slurm|kubernetes|ray|torchrun [--output FILE] [--until VERB]",
        "the file with which a cluster starts the recipe: sbatch script, TrainJob, Ray job, torchrun script",
        writing.deploy,
        writing.deploy_options,
    ),
    "schema": Verb(
        "[--markdown]", "the JSON schema of recipes, for editors", inspecting.schema, inspecting.schema_options
    ),
}
