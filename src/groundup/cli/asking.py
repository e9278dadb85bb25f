"""The verbs that ask models: generate, chat, predict, and compare, which asks two the same."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from groundup.cli import rooms
from groundup.cli.output import show, show_json, stream
from groundup.cli.parser import words_of
from groundup.errors import RecipeError, first_line

CHAT_HELP = "Type a question. /reset forgets the conversation, /quit (or Ctrl-D) ends it, Ctrl-C stops an answer."


def generate(options: argparse.Namespace) -> None:
    """generate: go on with a text, piece by piece."""
    talk, (target, *words) = rooms.room("talk"), words_of(options, "a recipe or a model folder")
    settings = talk.generation(vars(options))
    if options.fill_mask is not None:
        _fill_mask(options, talk.load_target(target, words)[0])
        return
    model, prompts = talk.load_target(target, words)
    prompt = " ".join(prompts) if prompts else _standard_input()
    if options.json:
        show_json({"prompt": prompt, "continuation": "".join(model.stream(prompt, settings))})
        return
    stream([prompt])
    stream(model.stream(prompt, settings))
    show()


def generate_options(parser: argparse.ArgumentParser) -> None:
    chat_options(parser)
    parser.add_argument("--fill-mask", metavar="TEXT", help="fill each [MASK] of a text (encoders), --top-k of each")


def _fill_mask(options: argparse.Namespace, model: Any) -> None:
    """generate --fill-mask: what an encoder would put into each gap, most probable first."""
    top_k = 5 if options.top_k is None else options.top_k
    if top_k < 1:
        raise RecipeError(f"--top-k {top_k}: give 1 or more candidates for each [MASK]")
    gaps = model.fill_mask(options.fill_mask, top_k)
    if options.json:
        shown = [[{"token": f.token, "text": f.text, "probability": f.probability} for f in gap] for gap in gaps]
        show_json({"text": options.fill_mask, "gaps": shown})
        return
    for number, gap in enumerate(gaps, start=1):
        if len(gaps) > 1:
            show(f"[MASK] {number}")
        for filling in gap:
            show(f"{filling.probability:6.1%}  {filling.text!r}")


def _standard_input() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise RecipeError('give a text to go on with, for example groundup generate TARGET "Once upon a time"')
    return sys.stdin.read()


def chat(options: argparse.Namespace) -> None:
    """chat: answer the questions given, or each line of stdin, or hold a conversation on a terminal."""
    talk, (target, *words) = rooms.room("talk"), words_of(options, "a recipe or a model folder")
    settings = talk.generation(vars(options))
    model, questions = talk.load_target(target, words)
    if not questions and sys.stdin is not None and sys.stdin.isatty():
        _converse(model.chat(settings))
        return
    asked = questions or [line.strip() for line in sys.stdin or () if line.strip()]
    if not asked:
        raise RecipeError(f'no question; for example groundup chat {target[-60:]} "What is ...?"')
    if options.json:
        answers = [
            {"question": question, "answer": "".join(model.chat(settings).reply(question))} for question in asked
        ]
        show_json({"answers": answers})
        return
    for question in asked:
        if len(asked) > 1:
            show(f"> {question}")
        stream(model.chat(settings).reply(question))
        show()


def chat_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer")
    parser.add_argument("--temperature", type=float, metavar="T", help="0: the most likely token; higher: bolder")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K most likely tokens (0: all)")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from tokens of this share of probability")
    parser.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: less repetition")
    parser.add_argument("--seed", type=int, metavar="S", help="start of the random numbers")


def _converse(conversation: Any) -> None:
    print(CHAT_HELP, file=sys.stderr)
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            show()
            return
        if question in ("/quit", "/exit"):
            return
        if question == "/reset":
            conversation.reset()
            continue
        try:
            stream(conversation.reply(question) if question else ())
        except KeyboardInterrupt:
            pass
        except RecipeError as error:
            print(f"groundup: {first_line(error)}", file=sys.stderr)
        show()


def predict(options: argparse.Namespace) -> None:
    """predict: what a model with a head for a task says of texts or pairs: given here, in a file or on stdin."""
    talk, (target, *words) = rooms.room("talk"), words_of(options, "a recipe or a model folder")
    model, texts = talk.load_target(target, words, of_task=True)
    texts = [*(options.text or ()), *texts]
    if options.file is not None and texts:
        raise RecipeError("groundup predict: give texts or --file, not both")
    if options.file is not None:
        examples = talk.of_file(model, options.file, options.text_field, options.pair_field)
    elif texts:
        examples = talk.of_texts(model, texts, options.pair)
    elif sys.stdin is None or sys.stdin.isatty():
        raise RecipeError('groundup predict: give a text, for example groundup predict TARGET --text "..."; or --file')
    else:
        examples = talk.of_lines(model, sys.stdin)
    shown: list[dict[str, Any]] = []
    for example, found in talk.predictions(model, examples, options.threshold):
        if options.json:
            shown.append({"id": example.id, **found.as_dict()})
            continue
        if len(texts) != 1:
            show(f"> {example.id}: {' '.join(example.text.split())[:90]}")
        for line in found.lines():
            show(line)
    if options.json:
        show_json({"task": model.labeller.config.task, "predictions": shown})


def predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", metavar="TEXT", action="append", help="a text; may be given several times")
    parser.add_argument("--pair", metavar="TEXT", help="the second text; of spans, the question")
    parser.add_argument("--file", metavar="FILE", help="records (JSON lines, CSV, ...), or a .txt of lines")
    parser.add_argument("--text-field", metavar="F", default="text", help="field of the text in the file's records")
    parser.add_argument("--pair-field", metavar="F", default="", help="field of the second text, or the question")
    parser.add_argument("--threshold", type=float, metavar="P", help="probability of a label, of several (0.5)")


def compare(options: argparse.Namespace) -> None:
    """compare: two models on the same prompts, side by side on a page, with a judge's verdicts if one is named."""
    words = words_of(options, "two recipes, runs or model folders")
    if len(words) != 2:
        raise RecipeError(
            f"groundup compare: two targets are compared, {len(words)} given; each is a recipe or a folder"
        )
    if options.limit < 0 or options.max_new_tokens < 1:
        raise RecipeError("groundup compare: --limit is 0 or more, --max-new-tokens 1 or more")
    room = rooms.room("compare")
    judge = room.judge_of(vars(options))
    sides = room.side(words[0]), room.side(words[1])
    prompts = list(room.spread(room.prompts_for(options.prompts, words[0]), options.limit))
    found = room.compare(sides, prompts, options.max_new_tokens, judge, options.judge_model or "", options.people)
    page = Path(options.out)
    room.write_page(found, page)
    if options.json:
        show_json({**found.as_dict(), "page": str(page)})
    else:
        for line in room.lines_of(found):
            show(line)
        show(f"page: {page}")
    if found.fault:
        raise rooms.room("errors").ResourceError(f"the judge stayed away, the page says how far it came; {found.fault}")


def compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", metavar="FILE", help="records with prompt, or messages; else held-out questions")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="evenly spread prompts (100; 0: all)")
    parser.add_argument("--out", metavar="FILE", default="comparison.html", help="the page (comparison.html)")
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="longest answer (128)")
    parser.add_argument("--judge", metavar="URL", help="base address of an OpenAI-compatible server that judges")
    parser.add_argument("--judge-model", metavar="NAME", help="the model it is asked for")
    parser.add_argument("--judge-key-file", metavar="FILE", help="file that holds the server's key")
    parser.add_argument("--judge-key-env", metavar="NAME", help="environment variable that holds it")
    parser.add_argument("--judge-timeout", type=float, metavar="SECONDS", help="longest wait for a reply (120)")
    parser.add_argument("--judge-attempts", type=int, metavar="N", help="tries of a request (5)")
    parser.add_argument("--people", metavar="FILE", help="verdicts of people: records of id (or prompt) and verdict")
