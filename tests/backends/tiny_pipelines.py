"""Makes one tiny model of random weights for each task, in a directory named as the task.

usage: python tiny_pipelines.py TEXT PLACE   (in a venv with torch, transformers and diffusers; nothing is downloaded)

What they say is nonsense; that it comes, and in which shape, is what is looked at.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import diffusers
import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ANIMALS = dict(enumerate(["cat", "dog", "llama"]))
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def words(text: str) -> Any:
    """BERT's kind of tokenizer."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(text.splitlines(), trainers.WordPieceTrainer(vocab_size=800, special_tokens=MARKS))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return t.BertTokenizerFast(tokenizer_object=made, model_max_length=128)


def letters() -> Any:
    """A tokenizer of bytes, whose every token is text."""
    made = Tokenizer(models.BPE(vocab={each: at for at, each in enumerate(["<|end|>", *ALPHABET])}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return t.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|end|>", eos_token="<|end|>", pad_token="<|end|>", model_max_length=128
    )


def texts(text: str, place: Path) -> None:
    read = words(text)

    def config(names: tuple[str, ...] = ("a", "b")) -> Any:
        labels = dict(enumerate(names))
        return t.BertConfig(
            vocab_size=len(read),
            max_position_embeddings=128,
            id2label=labels,
            label2id={label: at for at, label in labels.items()},
            **SMALL,
        )

    for task, model in {
        "text-classification": t.BertForSequenceClassification(config(("NEGATIVE", "POSITIVE"))),
        "zero-shot-classification": t.BertForSequenceClassification(config(("contradiction", "entailment"))),
        "text-ranking": t.BertForSequenceClassification(config(("relevant",))),
        "token-classification": t.BertForTokenClassification(config(("O", "B-PER", "I-PER"))),
        "fill-mask": t.BertForMaskedLM(config()),
        "question-answering": t.BertForQuestionAnswering(config()),
        "feature-extraction": t.BertModel(config()),
        "sentence-similarity": t.BertModel(config()),
    }.items():
        save(place / task, model, read)


def writers(place: Path) -> None:
    read = letters()
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    llama = t.LlamaConfig(vocab_size=len(read), max_position_embeddings=128, **SMALL, **ends)
    save(place / "text-generation", t.LlamaForCausalLM(llama), read)
    sizes = {f"{side}_{what}": size for side in ("encoder", "decoder") for what, size in _LAYERS.items()}
    bart = t.BartConfig(
        vocab_size=len(read), d_model=32, max_position_embeddings=128, decoder_start_token_id=0, **sizes, **ends
    )
    for task in ("summarization", "translation"):
        save(place / task, t.BartForConditionalGeneration(bart), read)
    sees = t.ViTConfig(image_size=32, patch_size=8, **SMALL)
    says = t.GPT2Config(vocab_size=len(read), n_embd=32, n_layer=2, n_head=2, add_cross_attention=True, **ends)
    both = t.VisionEncoderDecoderConfig.from_encoder_decoder_configs(sees, says)
    both.decoder_start_token_id, both.pad_token_id = 0, 0
    captions = t.VisionEncoderDecoderModel(config=both)
    captions.generation_config.update(decoder_start_token_id=0, **ends)
    save(place / "image-to-text", captions, t.ViTImageProcessor(size={"height": 32, "width": 32}), read)


_LAYERS = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}


def pictures(place: Path) -> None:
    of = {"image_size": 32, "patch_size": 8, "id2label": ANIMALS, **SMALL}
    processor = t.ViTImageProcessor(size={"height": 32, "width": 32})
    save(place / "image-classification", t.ViTForImageClassification(t.ViTConfig(**of)), processor)
    yolos = t.YolosConfig(**(of | {"image_size": [32, 32]}), num_detection_tokens=4)
    sized = t.YolosImageProcessor(size={"height": 32, "width": 32})
    save(place / "object-detection", t.YolosForObjectDetection(yolos), sized)
    stages = {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [16, 32]}
    stages |= {"patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}
    segformer = t.SegformerConfig(**stages, decoder_hidden_size=16, id2label=ANIMALS)
    small = t.SegformerImageProcessor(size={"height": 32, "width": 32})
    save(place / "image-segmentation", t.SegformerForSemanticSegmentation(segformer), small)
    deep = t.GLPNConfig(**stages, decoder_hidden_size=16, max_depth=10)
    save(place / "depth-estimation", t.GLPNForDepthEstimation(deep), t.GLPNImageProcessor())


def pictures_and_words(text: str, place: Path) -> None:
    read, clip_read = words(text), clip_letters(place)
    reads = {"vocab_size": len(clip_read), "max_position_embeddings": 77, "bos_token_id": len(clip_read) - 2}
    reads |= {"eos_token_id": len(clip_read) - 1, "pad_token_id": 1}
    clip = t.CLIPConfig(
        text_config=t.CLIPTextConfig(**reads, **SMALL).to_dict(),
        vision_config=t.CLIPVisionConfig(image_size=32, patch_size=8, **SMALL).to_dict(),
        projection_dim=32,
    )
    shown = t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    save(place / "zero-shot-image-classification", t.CLIPModel(clip), t.CLIPProcessor(shown, clip_read))
    vilt = t.ViltConfig(
        vocab_size=len(read),
        image_size=32,
        patch_size=8,
        max_position_embeddings=40,
        id2label=dict(enumerate(["yes", "no", "two"])),
        **SMALL,
    )
    seen = t.ViltImageProcessor(size={"shortest_edge": 32})
    save(
        place / "visual-question-answering", t.ViltForQuestionAnswering(vilt), t.ViltProcessor(seen, words_of(read, 40))
    )


def words_of(read: Any, longest: int) -> Any:
    read.model_max_length = longest
    return read


def clip_letters(place: Path) -> Any:
    kept = place / "clip-tokenizer"
    kept.mkdir(parents=True, exist_ok=True)
    known = [*ALPHABET, *(each + "</w>" for each in ALPHABET), "<|startoftext|>", "<|endoftext|>"]
    (kept / "vocab.json").write_text(json.dumps({each: at for at, each in enumerate(known)}))
    (kept / "merges.txt").write_text("#version: 0.2\n")
    return t.CLIPTokenizer(str(kept / "vocab.json"), str(kept / "merges.txt"), model_max_length=77)


def sounds(place: Path) -> None:
    kept = place / "automatic-speech-recognition"
    kept.mkdir(parents=True, exist_ok=True)
    signs = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    (kept / "vocab.json").write_text(json.dumps({each: at for at, each in enumerate(signs)}))
    hears = t.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    of = {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, **SMALL}
    heard = t.Wav2Vec2Config(vocab_size=len(signs), pad_token_id=0, mask_time_prob=0.0, **of)
    tokenizer = t.Wav2Vec2CTCTokenizer(str(kept / "vocab.json"))
    save(kept, t.Wav2Vec2ForCTC(heard), t.Wav2Vec2Processor(hears, tokenizer))
    judged = t.Wav2Vec2Config(mask_time_prob=0.0, id2label=ANIMALS, classifier_proj_size=16, **of)
    save(place / "audio-classification", t.Wav2Vec2ForSequenceClassification(judged), hears)
    speech(place / "text-to-speech")


def speech(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    signs = ["<pad>", "<unk>", *" abcdefghijklmnopqrstuvwxyz'.,?!-"]
    (place / "vocab.json").write_text(json.dumps({each: at for at, each in enumerate(signs)}))
    config = t.VitsConfig(
        vocab_size=len(signs),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=64,
        flow_size=32,
        spectrogram_bins=33,
        upsample_initial_channel=32,
        upsample_rates=[8, 8, 4],
        upsample_kernel_sizes=[16, 16, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        wavenet_dilation_rate=1,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1,
        duration_predictor_filter_channels=32,
        depth_separable_channels=2,
        depth_separable_num_layers=1,
        sampling_rate=16000,
    )
    reads = t.VitsTokenizer(str(place / "vocab.json"), pad_token="<pad>", unk_token="<unk>", phonemize=False)
    save(place, t.VitsModel(config), reads)


def painter(place: Path) -> None:
    reads = clip_letters(place)
    size = {"block_out_channels": (32, 64), "layers_per_block": 1}
    drawn = diffusers.UNet2DConditionModel(
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        **size,
    )
    seen = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **size
    )
    ends = {"bos_token_id": len(reads) - 2, "eos_token_id": len(reads) - 1, "pad_token_id": 1}
    read = t.CLIPTextModel(t.CLIPTextConfig(vocab_size=len(reads), **SMALL, **ends))
    diffusers.StableDiffusionPipeline(
        text_encoder=read,
        tokenizer=reads,
        unet=drawn,
        vae=seen,
        scheduler=diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(place / "text-to-image")


def save(place: Path, *parts: Any) -> None:
    for each in parts:
        each.save_pretrained(place)


def main(text: str, place: Path) -> None:
    torch.manual_seed(0)
    texts(text, place)
    writers(place)
    pictures(place)
    pictures_and_words(text, place)
    sounds(place)
    painter(place)


main(Path(sys.argv[1]).read_text(), Path(sys.argv[2]))
