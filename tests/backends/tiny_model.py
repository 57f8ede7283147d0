"""Makes a tiny Llama, trained for some seconds on a text at hand, in a cache like the Hub's.

usage: python tiny_model.py TEXT CACHE MODEL_ID   (in a venv with torch and transformers; nothing is downloaded)

The few steps of training are there so that greedy answers are many different tokens of valid UTF-8 and not one token
for ever, which would look the same however a router cut it.
"""

import hashlib
import os
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STEPS, BATCH, LENGTH = 150, 8, 64


def tokenizer_of(text: str) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        text.splitlines(), trainers.BpeTrainer(vocab_size=1024, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=SPECIAL[0], eos_token=SPECIAL[2], pad_token=SPECIAL[0], model_max_length=4096
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def main(text: str, cache: Path, model_id: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = tokenizer_of(text)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    ids = torch.tensor(tokenizer(text)["input_ids"])
    steps = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(STEPS):
        starts = torch.randint(0, len(ids) - LENGTH - 1, (BATCH,))
        batch = torch.stack([ids[start : start + LENGTH] for start in starts])
        model(input_ids=batch, labels=batch).loss.backward()
        steps.step()
        steps.zero_grad()
    revision = hashlib.sha1(model_id.encode()).hexdigest()
    place = cache / f"models--{model_id.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(revision)
    for each in (model, tokenizer):
        each.save_pretrained(place / "snapshots" / revision)


main(Path(sys.argv[1]).read_text(), Path(sys.argv[2]), sys.argv[3])
