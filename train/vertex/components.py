"""The pipeline as Kubeflow sees it: prepare -> train -> evaluate -> gate -> register and deploy.

A component's text travels into the container alone, so each imports what it uses, and has nothing else to say than
which step of train/vertex/steps.py it is. Annotations are types here, not text: Kubeflow reads them.
"""

from collections.abc import Callable
from typing import Any

from kfp import dsl

NAME = "gpt-train-and-deploy"


def prepare(data: str, text: dsl.Output[dsl.Dataset]):  # type: ignore[no-untyped-def]  # noqa: D103
    from pathlib import Path

    from train.vertex import steps

    with steps.in_words():
        text.metadata.update(steps.prepare(data, Path(text.path)))


def train(  # type: ignore[no-untyped-def]  # noqa: D103
    text: dsl.Input[dsl.Dataset], name: str, options: list[str], processes: int, model: dsl.Output[dsl.Model]
):
    from pathlib import Path

    from train.vertex import steps

    with steps.in_words():
        steps.train(Path(text.path), text.metadata["name"], name, options, processes, Path(model.path))


def evaluate(  # noqa: D103
    text: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    train_fraction: float,
    metrics: dsl.Output[dsl.Metrics],
) -> float:
    from pathlib import Path

    from train.vertex import steps

    with steps.in_words():
        figures = steps.evaluate(Path(text.path), Path(model.path), train_fraction)
    for name, figure in figures.items():
        metrics.log_metric(f"{name}_nats_per_character", figure)
    return figures["block"]


def gate(nats: float, threshold: float) -> str:  # noqa: D103
    from train.vertex import steps

    return steps.gate(nats, threshold)


def deploy(  # noqa: D103
    model: dsl.Input[dsl.Model],
    nats: float,
    threshold: float,
    project: str,
    location: str,
    api_endpoint: str,
    bucket: str,
    name: str,
    image: str,
    machine_type: str,
) -> str:
    from pathlib import Path

    from train.vertex import steps

    with steps.in_words():
        return steps.deploy(
            Path(model.path),
            nats,
            threshold,
            project=project,
            location=location,
            api_endpoint=api_endpoint,
            bucket=bucket,
            name=name,
            image=image,
            machine_type=machine_type,
        )


def build_pipeline(image: str, accelerator: str = "", accelerator_count: int = 0) -> Any:
    """The pipeline, whose steps run in the training image.

    Args:
        image: its address.
        accelerator: GPU of the machine that trains; empty for none.
        accelerator_count: how many.
    """

    def component(step: Callable[..., Any]) -> Any:
        return dsl.component(step, base_image=image, install_kfp_package=False)

    def pipeline(
        data: str,
        options: list[str],
        train_fraction: float,
        threshold: float,
        project: str,
        location: str,
        bucket: str,
        name: str,
        serving_image: str,
        machine_type: str,
        api_endpoint: str = "",
    ) -> None:
        prepared = component(prepare)(data=data)
        prepared.set_caching_options(False)  # the text behind a name or an address may be another one by now
        text = prepared.outputs["text"]
        trained = component(train)(text=text, name=name, options=options, processes=max(1, accelerator_count))
        trained.set_cpu_limit("8").set_memory_limit("30G")
        if accelerator_count:
            trained.set_accelerator_type(accelerator).set_accelerator_limit(accelerator_count)
        model = trained.outputs["model"]
        evaluated = component(evaluate)(text=text, model=model, train_fraction=train_fraction)
        nats = evaluated.outputs["Output"]
        decided = component(gate)(nats=nats, threshold=threshold)
        # The one output of a step, compared with a text: what a condition reads rightly, here and in the cloud.
        with dsl.If(decided.output == "deploy"):
            deployed = component(deploy)(
                model=model,
                nats=nats,
                threshold=threshold,
                project=project,
                location=location,
                api_endpoint=api_endpoint,
                bucket=bucket,
                name=name,
                image=serving_image,
                machine_type=machine_type,
            )
            deployed.set_caching_options(False)  # what was deployed once may be undeployed by now

    description = "A GPT, trained, scored, and deployed if it is good enough."
    return dsl.pipeline(name=NAME, description=description)(pipeline)
