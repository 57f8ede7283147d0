"""Sound in, and sound out: recognition, classification, speech. Decoded here, so that no ffmpeg has to be installed."""

import io
from typing import Any, Final

import numpy
import soundfile
import transformers

from providers.spec import Ask, Blob, Result, Unreadable
from router.backend import device, inputs, outputs
from router.backend.engine import Loaded, Order, Run, Step

WHISPERS_WINDOW: Final = 30  # seconds
LONGEST: Final = 4 * 60 * 60  # seconds of sound; more is a mistake, or an attack by compression


def load(order: Order) -> Loaded:
    task = "text-to-audio" if order.task == "text-to-speech" else order.task
    made = transformers.pipeline(task, model=order.model, device=device.device_of(order), dtype=device.dtype_of(order))
    run: Run = Speaker(made)
    if task != "text-to-audio":
        run = Listener(made) if task == "automatic-speech-recognition" else Classifier(made)
    return device.loaded(order, run)


class Listener:
    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._whisper = pipeline.type == "seq2seq_whisper"

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, ("return_timestamps", *GENERATION))
        call: dict[str, Any] = {"generate_kwargs": generation_of(asked)}
        rate = self._pipeline.feature_extractor.sampling_rate
        heard = samples_of(inputs.file_of(ask.inputs), rate)
        timed = asked.get("return_timestamps") or False
        if timed is True and not self._whisper:
            timed = "word"  # the only ones that other models tell; the Hub's clients ask for `true`
        # Whisper hears more than its window only piece by piece, for which it needs the times.
        needed = self._whisper and len(heard) > WHISPERS_WINDOW * rate
        if timed or needed:
            call["return_timestamps"] = timed or True
        found = self._pipeline(heard, **{name: value for name, value in call.items() if value})
        result = {"text": found["text"]}
        if timed:
            result["chunks"] = outputs.plain(
                [{"text": each["text"], "timestamp": each["timestamp"]} for each in found["chunks"]]
            )
        return Result(result)


class Classifier:
    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, ("top_k", "function_to_apply"))
        heard = samples_of(inputs.file_of(ask.inputs), self._pipeline.feature_extractor.sampling_rate)
        return Result(outputs.plain(self._pipeline(heard, **asked)))


class Speaker:
    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = generation_of(inputs.known(ask, ("seed", *GENERATION)))
        seed = asked.pop("seed", None)
        transformers.set_seed(device.seeded(seed).initial_seed() % 2**32 if seed is not None else SEED)
        call = {"generate_kwargs": asked} if asked and self._pipeline.model.can_generate() else {}
        if asked and not call:
            name = next(iter(asked))
            raise Unreadable(f"parameters.{name}", f"`{name}` is not a parameter of this model", status=400)
        found = self._pipeline(inputs.text_of(ask.inputs), **call)
        return Result(outputs.sound(found["audio"], found["sampling_rate"], ask.accept))


SEED: Final = 0  # what is said the same way each time is what may be cached
GENERATION: Final = (
    "generation_parameters",
    "generate_kwargs",
    "do_sample",
    "early_stopping",
    "epsilon_cutoff",
    "eta_cutoff",
    "language",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "num_beam_groups",
    "num_beams",
    "penalty_alpha",
    "task",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "use_cache",
)


def generation_of(asked: dict[str, Any]) -> dict[str, Any]:
    """The parameters of `generate`: by themselves, or in a bag, as the specification has them."""
    bags = [asked.get(name) for name in ("generation_parameters", "generate_kwargs")]
    inside = {name: value for bag in bags if isinstance(bag, dict) for name, value in bag.items() if value is not None}
    for name in inside:
        if name not in GENERATION:
            raise Unreadable(f"parameters.{name}", f"`{name}` is not a parameter of this model", status=400)
    outside = {name: value for name, value in asked.items() if name not in (*GENERATION[:2], "return_timestamps")}
    return inside | outside


def samples_of(file: Blob, rate: int) -> Any:
    """A recording as samples of one channel, so many a second. WAV, FLAC, Ogg and MP3, which libsndfile reads."""
    try:
        with soundfile.SoundFile(io.BytesIO(file.data)) as sound:
            if sound.frames > LONGEST * sound.samplerate:
                raise Unreadable("inputs", f"`inputs` is longer than {LONGEST // 3600} hours", status=400)
            heard, given = sound.read(dtype="float32", always_2d=True).mean(axis=1), sound.samplerate
    except (soundfile.SoundFileError, ValueError, OSError):
        known = "WAV, FLAC, Ogg and MP3 can be read here"
        raise Unreadable("inputs", f"`inputs` is no sound that can be read: {known}", status=400) from None
    if not len(heard):
        raise Unreadable("inputs", "`inputs` is a sound of no length", status=400)
    return resampled(heard, given, rate)


def resampled(heard: Any, given: int, wanted: int) -> Any:
    """At another rate, without what that rate cannot hold: the spectrum is cut, or lengthened with nothing."""
    if given == wanted:
        return heard
    length = max(1, round(len(heard) * wanted / given))
    spectrum = numpy.fft.rfft(heard)[: length // 2 + 1]
    return (numpy.fft.irfft(spectrum, length) * (length / len(heard))).astype(numpy.float32)
