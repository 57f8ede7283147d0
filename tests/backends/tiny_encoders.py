"""Makes two tiny BERTs over one tokenizer, one that embeds and one that ranks, as directories.

usage: python tiny_encoders.py TEXT EMBEDS RANKS   (in a venv with torch and transformers; nothing is downloaded)

They are not trained: vectors of random weights are as different from each other as any, and each has its own bytes.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer_of(text: str) -> BertTokenizerFast:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(text.splitlines(), trainers.WordPieceTrainer(vocab_size=800, special_tokens=SPECIAL))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]"))],
    )
    return BertTokenizerFast(tokenizer_object=made, model_max_length=128)


def main(text: str, embeds: str, ranks: str) -> None:
    torch.manual_seed(0)
    tokenizer = tokenizer_of(text)

    def config(**more: int) -> BertConfig:
        return BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=128,
            **more,
        )

    for model, place in (
        (BertModel(config()), embeds),
        (BertForSequenceClassification(config(num_labels=1)), ranks),
    ):
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)


main(Path(sys.argv[1]).read_text(), sys.argv[2], sys.argv[3])
