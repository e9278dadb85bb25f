"""Chat templates of the usual shapes, written here, and tokenizer folders that have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from groundup.tokens.patterns import PATTERNS
from tests.tokens.conftest import TEXTS

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{% endif %}" + CHATML
)
LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- (message['content'] | trim) + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """\
{%- if messages[0].role == 'system' -%}
{%- set rules, messages = messages[0].content + '\\n\\n', messages[1:] -%}
{%- endif -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('After the system turn user and assistant must alternate') -}}
{%- endif -%}
{%- if message.role == 'user' -%}
{{- '[INST] ' + (rules if loop.first and rules is defined else '') + message.content + ' [/INST]' -}}
{%- else -%}
{{- ' ' + message.content + eos_token -}}
{%- endif -%}
{%- endfor -%}
"""
GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
ZEPHYR = """\
{% for message in messages %}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""
THINKING = """\
{%- set last = namespace(query=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set last.query = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and loop.index0 > last.query %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
    {{- content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
MARKED = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
<|im_start|>assistant
{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}
{% else -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


class Shape(NamedTuple):
    """A template, the special tokens that it names, all control tokens, and what ends an answer."""

    text: str
    named: dict[str, str]
    control: tuple[str, ...]
    end: str


IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
IM_NAMED = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
LLAMA_CONTROL = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    "<|reserved_special_token_0|>",
)
S = {"bos_token": "<s>", "eos_token": "</s>"}
SHAPES = {
    "chatml": Shape(CHATML, IM_NAMED, IM, "<|im_end|>"),
    "default system": Shape(DEFAULT_SYSTEM, IM_NAMED, IM, "<|im_end|>"),
    "llama3": Shape(LLAMA3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}, LLAMA_CONTROL, "<|eot_id|>"),
    "mistral": Shape(MISTRAL, S, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "</s>"),
    "gemma": Shape(
        GEMMA,
        {"bos_token": "<bos>", "eos_token": "<eos>"},
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
    ),
    "zephyr": Shape(ZEPHYR, S, ("<unk>", "<s>", "</s>"), "</s>"),
    "thinking": Shape(THINKING, IM_NAMED, IM, "<|im_end|>"),
    "marked": Shape(MARKED, IM_NAMED, IM, "<|im_end|>"),
}
WITHOUT_SYSTEM = ("gemma",)


def write_tokenizer(folder: Path, control: tuple[str, ...]) -> None:
    """A small byte-level tokenizer with these control tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in PATTERNS["qwen2"].expressions]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens(list(control))
    tokenizer.save(str(folder / "tokenizer.json"))


def write_folder(folder: Path, name: str, text: str | None = None) -> Path:
    """A folder with a tokenizer and the template `name`, or another `text` in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = SHAPES[name]
    write_tokenizer(folder, shape.control)
    values = {**shape.named, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": text or shape.text}
    (folder / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder
