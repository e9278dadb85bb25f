"""Documents and conversations -> tokenizer, token files, mixtures and packed batches."""

from groundup.tokens.arrays import write_array
from groundup.tokens.batches import Batch, collate, ordered_batches
from groundup.tokens.bigrams import Bigrams, count_bigrams
from groundup.tokens.conversation_fields import ConversationFieldsConfig
from groundup.tokens.conversation_rows import write_conversations
from groundup.tokens.conversations import (
    Conversation,
    ConversationReading,
    InstructSourceConfig,
    instruct_identity,
    read_conversations,
)
from groundup.tokens.encoder_rows import NEXT_SENTENCE, EncoderText
from groundup.tokens.example_encoding import Window, cut_words, encode_example, spaced
from groundup.tokens.example_rows import PackedExamples, heads_of, labels_of, write_examples
from groundup.tokens.example_values import label_of
from groundup.tokens.examples import Example, ExampleReading, TaskKind, TaskSourceConfig, task_source_identity
from groundup.tokens.fertility import OWN, measure_fertility
from groundup.tokens.file_shards import write_file_shards
from groundup.tokens.folds import write_folds
from groundup.tokens.foreign import (
    foreign_identity,
    load_foreign,
    require_control,
    require_tokenizer,
    take_in,
    tokenizer_identity,
)
from groundup.tokens.jinja_template import JinjaTemplate
from groundup.tokens.masking import Masking, MaskingConfig
from groundup.tokens.mixture import Mixture, MixtureSource
from groundup.tokens.packing import IGNORE, PackedConversations, PackedText, Row, Rows, examples_of
from groundup.tokens.preference_formats import Preference, preference_of
from groundup.tokens.preference_rows import (
    REFERENCES_FILE,
    PackedPreferences,
    PreferencePacking,
    write_preferences,
)
from groundup.tokens.preferences import PreferenceReading, PreferenceSourceConfig, preference_source_identity
from groundup.tokens.questions import Questions, write_questions
from groundup.tokens.rows import JoinedRows, SelectedRows
from groundup.tokens.sample import SourceFiles, SourceTexts, sample
from groundup.tokens.shards import write_shards
from groundup.tokens.template import (
    CHAT_TEMPLATE,
    TOOL,
    ChatTemplate,
    Encoded,
    Turn,
    Unfit,
    coloured_preview,
    encode_conversation,
    encode_examples,
    prompt_ids,
    turns_from_messages,
    without_lead,
)
from groundup.tokens.tokenizer import EncoderIds, Tokenizer
from groundup.tokens.tokenizer_file import CONTROL_TOKENS, ENCODER_TOKENS, TOOL_TURN
from groundup.tokens.tokenizer_training import TokenizerConfig, train_tokenizer
from groundup.tokens.word_starts import WordStarts

__all__ = [
    "CHAT_TEMPLATE",
    "CONTROL_TOKENS",
    "ENCODER_TOKENS",
    "IGNORE",
    "NEXT_SENTENCE",
    "OWN",
    "REFERENCES_FILE",
    "TOOL",
    "TOOL_TURN",
    "Batch",
    "Bigrams",
    "ChatTemplate",
    "Conversation",
    "ConversationFieldsConfig",
    "ConversationReading",
    "Encoded",
    "EncoderIds",
    "EncoderText",
    "Example",
    "ExampleReading",
    "InstructSourceConfig",
    "JinjaTemplate",
    "JoinedRows",
    "Masking",
    "MaskingConfig",
    "Mixture",
    "MixtureSource",
    "PackedConversations",
    "PackedExamples",
    "PackedPreferences",
    "PackedText",
    "Preference",
    "PreferencePacking",
    "PreferenceReading",
    "PreferenceSourceConfig",
    "Questions",
    "Row",
    "Rows",
    "SelectedRows",
    "SourceFiles",
    "SourceTexts",
    "TaskKind",
    "TaskSourceConfig",
    "Tokenizer",
    "TokenizerConfig",
    "Turn",
    "Unfit",
    "Window",
    "WordStarts",
    "collate",
    "coloured_preview",
    "count_bigrams",
    "cut_words",
    "encode_conversation",
    "encode_example",
    "encode_examples",
    "examples_of",
    "foreign_identity",
    "heads_of",
    "instruct_identity",
    "label_of",
    "labels_of",
    "load_foreign",
    "measure_fertility",
    "ordered_batches",
    "preference_of",
    "preference_source_identity",
    "prompt_ids",
    "read_conversations",
    "require_control",
    "require_tokenizer",
    "sample",
    "spaced",
    "take_in",
    "task_source_identity",
    "tokenizer_identity",
    "train_tokenizer",
    "turns_from_messages",
    "without_lead",
    "write_array",
    "write_conversations",
    "write_examples",
    "write_file_shards",
    "write_folds",
    "write_preferences",
    "write_questions",
    "write_shards",
]
