"""`genai eval CONFIG.yaml` measures models, endpoints and indexes; its helpers compare runs that did."""

from __future__ import annotations

from pathlib import Path

import click

from .eval_text import comparison_text, embeddings_text, leaderboard_text, metrics_text, summary
from .options import JobGroup, common_options, examples, job_options
from .output import Output

_GATE_NOT_MET = 3


@click.group(
    cls=JobGroup,
    epilog=examples(
        "genai eval configs/eval/faq.yaml",
        "genai eval configs/eval/faq.yaml target.model=runs:faq-lora --dry-run",
        "genai eval compare faq-base faq-lora",
        "genai eval leaderboard",
        "genai eval metrics",
    ),
    subcommand_metavar="CONFIG.yaml [KEY=VALUE]... | COMMAND [ARGS]...",
)
def command() -> None:
    """Measure quality against data and a baseline, with gates: exit code 3 when one does not hold.

    With a job file models, endpoints, indexes or logged answers are measured. The commands compare runs that were. The
    flags of the job: genai eval CONFIG.yaml --help.
    """


@command.command("run", hidden=True)
@job_options
def run(
    config: Path, overrides: tuple[str, ...], run_name: str | None, dry_run: bool, allow_code: bool, output: Output
) -> None:
    """Measure as a job file says."""
    from genai.config.eval import EvalConfig
    from genai.config.loading import load

    loaded = load(config, EvalConfig, overrides)
    if dry_run:
        from genai.jobs import eval_plan

        plan = eval_plan.make_plan(loaded, run_name=run_name, allow_code=allow_code)
        output.result(plan.text(), plan.to_json())
        return
    from genai.jobs import eval as job

    result = job.run(loaded, run_name=run_name, allow_code=allow_code)
    output.result(summary(result), job.to_json(result))
    if output.as_json and not result.passed:
        raise click.exceptions.Exit(_GATE_NOT_MET)  # one JSON object is enough: it says why
    job.check_gates(result)


@command.command(
    short_help="Two runs side by side, example by example.",
    epilog=examples("genai eval compare faq-base faq-lora", "genai eval compare faq-base faq-lora --html diff.html"),
)
@click.argument("first", metavar="RUN_A")
@click.argument("second", metavar="RUN_B")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it as a page.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), help="Where runs lie.")
@common_options
def compare(first: str, second: str, html: Path | None, runs_dir: Path, output: Output) -> None:
    """What RUN_B does better and worse than RUN_A, on the examples that both measured."""
    from genai.jobs import eval_compare

    compared = eval_compare.compare(first, second, runs_dir=runs_dir, html=html)
    output.result(comparison_text(compared), compared.to_json())


@command.command(
    short_help="All runs that measured the same data, best first.",
    epilog=examples("genai eval leaderboard", "genai eval leaderboard faq"),
)
@click.argument("dataset", required=False)
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), help="Where runs lie.")
@common_options
def leaderboard(dataset: str | None, runs_dir: Path, output: Output) -> None:
    """Runs of `genai eval`, for each data set (as it was: rows that changed are another one)."""
    from genai.jobs import eval_leaderboard

    boards = eval_leaderboard.leaderboard(dataset, runs_dir=runs_dir)
    output.result(leaderboard_text(boards), boards.to_json())


@command.command(short_help="What can be measured.", epilog=examples("genai eval metrics"))
@common_options
def metrics(output: Output) -> None:
    """List the metrics, built in and of plugins, with the kinds of data they are for."""
    from genai.jobs import eval_metrics

    listed = eval_metrics.listed()
    output.result(metrics_text(listed), {"metrics": listed})


@command.command(
    short_help="How like two sets are, by their embeddings.",
    epilog=examples(
        "genai eval embeddings real.npy made.npy",
        "genai eval embeddings --probabilities classes.npy",
    ),
)
@click.argument("first", type=click.Path(path_type=Path), required=False, metavar="[REAL.npy")
@click.argument("second", type=click.Path(path_type=Path), required=False, metavar="MADE.npy]")
@click.option(
    "--probabilities",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A classifier's probabilities, (rows, classes): the inception-style score, from 1 to the number of classes.",
)
@common_options
def embeddings(first: Path | None, second: Path | None, probabilities: Path | None, output: Output) -> None:
    """The Fréchet distance of two sets of images or texts, from files of their embeddings: (rows, dimensions) each.

    Which encoder made them is for you to say; figures of different encoders cannot be compared.
    """
    from genai.jobs import eval_embeddings

    scores = eval_embeddings.score(first, second, probabilities=probabilities)
    output.result(embeddings_text(scores), scores.to_json())
