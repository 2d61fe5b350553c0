"""The starter's tokenizer: byte-level BPE whose numbers are written digit by digit."""

import itertools
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sftprep.starter.text import documents
from sftprep.starter.words import EVERYTHING

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
VOCABULARY = 2304
SAMPLE_DOCUMENTS = 30_000

# Words of ordinary English a prompt is likely to hold; each becomes few tokens. The base model
# is not trained on these lines, only the merges come from them.
PROMPT_WORDS = (
    "Instruction Response Input Question Answer User Assistant write Write words word list List "
    "following these this sentence text Change Give Tell What Which Who Where How many letters "
    "number Make Replace Remove Find capital lower case reverse order opposite brackets"
)


def _sample(seed: int) -> list[str]:
    nouns = EVERYTHING.nouns
    forms = [
        form for noun in nouns for form in (noun, f" {noun}", noun.upper(), f" {noun.upper()}")
    ]
    others = [*EVERYTHING.names, *EVERYTHING.places, *EVERYTHING.colors]
    forms += [form for word in others for form in (word, f" {word}")]
    forms += [form for word in PROMPT_WORDS.split() for form in (word, f" {word}")]
    forms += ["###", "### "]
    return [*itertools.islice(documents(seed), SAMPLE_DOCUMENTS), *(forms * 250)]


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on a sample of the text; the same seed gives the same file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r"\n"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write tokenizer.json (compact) and tokenizer_config.json."""
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
