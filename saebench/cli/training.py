"""The verb that trains SAEs. Nothing here imports torch before it is needed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from saebench.errors import OptionError

app = typer.Typer()

EXAMPLE = (
    "Example: saebench train --task synthetic/occlusion --architecture topk --width 256 --k 4 ·"
    " saebench train --model smollm2-135m --site blocks.14.hook_resid_pre@s2 --data ioi --k 32"
)


@app.command(epilog=EXAMPLE)
def train(
    task: Annotated[str | None, typer.Option(help="A synthetic task: synthetic/…")] = None,
    model: Annotated[
        str | None, typer.Option(help="Or a language model, as for evaluate; with --site and --data.")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="HOOK@POSITION of a task's prompts, or HOOK for every token.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="A task (ioi, ravel), or texts: .txt, .jsonl, .parquet, a directory; repeatable."),
    ] = None,
    architecture: Annotated[str, typer.Option(help="topk, standard, … as SAELens trains them.")] = "topk",
    width: Annotated[
        int | None, typer.Option(help="Latents. Default: as many as true features; 8 × d_in on a model.")
    ] = None,
    k: Annotated[
        float | None, typer.Option(help="Active latents per input. Default: the true L0; 32 on a model.")
    ] = None,
    l1: Annotated[float | None, typer.Option(help="Weight of the L1 penalty (standard, gated).")] = None,
    l0: Annotated[float | None, typer.Option(help="Weight of the L0 penalty (jumprelu).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of initialisation and order.")] = 0,
    samples: Annotated[
        int | None, typer.Option("--samples", "--tokens", help="Activations to train on. Default: 1M; 2M.")
    ] = None,
    distinct: Annotated[
        int | None, typer.Option(help="On a model: only so many different activations, kept in memory.")
    ] = None,
    context: Annotated[int, typer.Option(help="Tokens a window of text holds, on a model.")] = 128,
    batch: Annotated[int | None, typer.Option(help="Activations a step. Default: 512; 2,048.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. Default: 1e-3; 5e-4.")] = None,
    from_truth: Annotated[bool, typer.Option("--from-truth", help="Start at the true features.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto.")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(help="On a model: float32, or bfloat16 products (faster on a GPU and on recent CPUs)."),
    ] = "float32",
    out: Annotated[Path, typer.Option(help="Directory for the SAE.")] = Path("saebench-saes"),
    tasks: Annotated[list[Path] | None, typer.Option(help="Further directories of task folders.")] = None,
) -> None:
    """Train an SAE with SAELens: on a synthetic task, or on the activations of a language model.

    The checkpoint knows what it was trained on. A run on a model that was killed goes on from its
    last checkpoint when the same command is given again.
    """
    sparsity = {"--k": k, "--l1": l1, "--l0": l0}
    given: dict[str, Any] = {"samples": samples, "batch": batch, "lr": lr}
    given = {name: value for name, value in given.items() if value is not None}
    if (task is None) == (model is None):
        raise OptionError(
            "Expected either --task synthetic/… (features are known), or --model with --site and --data"
            " (activations of a language model)."
        )
    if task is not None:
        from saebench.synthetic.training import train_from_options

        path = train_from_options(
            task,
            architecture,
            width,
            sparsity,
            seed=seed,
            from_truth=from_truth,
            device=device,
            out=out,
            folders=tuple(tasks or ()),
            **given,
        )
        print(f"Saved {path}\nScore it: saebench evaluate {path} control:all")
        return
    from saebench.training.run import train_on_model

    if site is None or not data:
        raise OptionError(
            "--model needs --site HOOK[@POSITION] and --data (a task, or files of text) beside it."
        )
    path, fit = train_on_model(
        str(model),
        site,
        data,
        architecture,
        width,
        sparsity,
        seed=seed,
        distinct=distinct,
        context=context,
        device=device,
        dtype=dtype,
        out=out,
        folders=tuple(tasks or ()),
        **given,
    )
    print(
        f"Held out ({fit.n:,} activations): FVU {fit.fvu:.4f}, L0 {fit.l0:.1f}, {fit.dead} latents never fire"
    )
    print(f"Saved {path}\nScore it: saebench evaluate {path} control:all --model {model}")
