"""Pictures by diffusers: text-to-image and image-to-image, with progress, seeds and schedulers by name."""

import inspect
from typing import Any, Final

import diffusers

from providers.spec import Ask, Result, Unreadable
from router.backend import device, inputs, outputs
from router.backend.engine import Loaded, Order, Step

AUTO: Final = {
    "text-to-image": diffusers.AutoPipelineForText2Image,
    "image-to-image": diffusers.AutoPipelineForImage2Image,
}
# What a call takes that is no JSON, or would change the shape of the answer.
_NOT_CALLERS: Final = frozenset(
    {"self", "prompt", "image", "generator", "latents", "output_type", "return_dict", "num_images_per_prompt", "args"}
)
_OURS: Final = frozenset({"prompt", "scheduler", "seed", "target_size"})


def load(order: Order) -> Loaded:
    try:
        pipeline = AUTO[order.task].from_pretrained(order.model, torch_dtype=device.dtype_of(order))
    except ValueError:  # a kind that the automatic one does not know says what it is itself
        pipeline = diffusers.DiffusionPipeline.from_pretrained(order.model, torch_dtype=device.dtype_of(order))
    pipeline.to(device.device_of(order))
    pipeline.set_progress_bar_config(disable=True)
    return device.loaded(order, Painter(pipeline, order.task == "image-to-image"))


class Painter:
    def __init__(self, pipeline: Any, repaints: bool) -> None:
        self._pipeline = pipeline
        self._repaints = repaints
        self._scheduler = getattr(pipeline, "scheduler", None)
        taken = inspect.signature(pipeline.__call__).parameters
        self._tells = "callback_on_step_end" in taken
        self._names = {each for each in taken if each not in _NOT_CALLERS and "callback" not in each}
        self._names = {each for each in self._names if not each.endswith(("embeds", "_mask", "kwargs"))} | _OURS

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, self._names)
        call = self._subject(ask, asked)
        if "seed" in asked:
            call["generator"] = device.seeded(asked.pop("seed"))
        if self._scheduler is not None:
            self._pipeline.scheduler = self._scheduler_of(asked.pop("scheduler", None))
        if self._tells:
            call["callback_on_step_end"] = _teller(step)
        for name in ("num_inference_steps", "width", "height"):
            inputs.whole(asked, name)
        image = self._pipeline(**call, **asked).images[0]
        return Result(outputs.picture(image, ask.accept))

    def _subject(self, ask: Ask, asked: dict[str, Any]) -> dict[str, Any]:
        """What is painted, and how large. Takes what it reads out of `asked`."""
        size = asked.pop("target_size", None)
        if size is not None and not (isinstance(size, dict) and {"width", "height"} <= size.keys()):
            raise Unreadable("parameters.target_size", "`target_size` must have `width` and `height`", status=400)
        if not self._repaints:
            asked.pop("prompt", None)
            if size is not None:
                asked |= {"width": size["width"], "height": size["height"]}
            return {"prompt": inputs.text_of(ask.inputs)}
        image = inputs.picture_of(ask.inputs)
        if size is not None:
            width, height = inputs.whole(size, "width"), inputs.whole(size, "height")
            assert width is not None and height is not None
            image = image.resize((width, height))
        return {"prompt": inputs.text_of(asked.pop("prompt", ""), "parameters.prompt"), "image": image}

    def _scheduler_of(self, name: str | None) -> Any:
        """The model's own, or another that its configuration fits; a new one each time, since a scheduler has state."""
        found: Any = type(self._scheduler)
        if name is not None:
            fitting = {each.__name__: each for each in getattr(self._scheduler, "compatibles", [])}
            if name not in fitting:
                raise Unreadable(
                    "parameters.scheduler", f"`scheduler` must be one of {', '.join(sorted(fitting))}", status=400
                )
            found = fitting[name]
        return found.from_config(getattr(self._scheduler, "config", {}))


def _teller(step: Step) -> Any:
    def tell(pipeline: Any, index: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
        step((index + 1) / max(1, pipeline.num_timesteps))
        return values

    return tell
