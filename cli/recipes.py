"""`genai recipes`: the stories of recipes/ and the job files of configs/, which are installed with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from .options import JOB_FILE_SUFFIXES, common_options, examples
from .output import Output


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Something to copy: a story (a folder of recipes/) or one job file of configs/."""

    name: str
    """`quickstart` for a story, `finetune/quickstart` for a job file."""
    kind: str
    """`story` or `config`."""
    title: str
    """What it is, on one line."""
    contents: tuple[tuple[str, Traversable], ...]
    """Path relative to the copy, and the file."""


def find_recipes() -> dict[str, Recipe]:
    """Everything that is shipped, by name: the stories first."""
    stories = [_story(folder) for folder in _sorted(files("genai_recipes")) if folder.is_dir()]
    configs = [_config(path, file) for path, file in walk(files("genai_configs")) if path.endswith(JOB_FILE_SUFFIXES)]
    return {recipe.name: recipe for recipe in [*(story for story in stories if story.contents), *configs]}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        UsageError: there is none; the message suggests the nearest name.
    """
    recipes = find_recipes()
    if name in recipes:
        return recipes[name]
    from genai.errors import UsageError
    from genai.registry import suggest

    near = suggest(name, recipes)
    raise UsageError(
        f"unknown recipe '{name}'", fix=f"did you mean '{near}'?" if near else f"known: {', '.join(recipes)}"
    )


def copy_files(contents: Sequence[tuple[str, Traversable]], folder: Path) -> list[Path]:
    """Write files below `folder`, all or none of them.

    Args:
        contents: path below `folder`, and what to write there.
        folder: made where it does not exist.

    Raises:
        UsageError: one of the files is there already.
    """
    from genai.errors import UsageError
    from genai.storage.atomic import write_bytes

    targets = [folder / path for path, _ in contents]
    if taken := [str(target) for target in targets if target.exists()]:
        raise UsageError("would overwrite a file", where=taken[0], fix="choose another folder")
    for target, (_, file) in zip(targets, contents, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, file.read_bytes())
        if target.suffix == ".sh":
            target.chmod(0o755)
    return targets


def walk(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    """All files below a folder with their paths relative to it, but for what makes it a package and the runs of a
    checkout.
    """
    found = []
    for item in _sorted(folder):
        if item.is_dir():
            found += walk(item, f"{prefix}{item.name}/")
        elif item.name != "__init__.py" and not item.name.endswith(".pyc"):
            found.append((f"{prefix}{item.name}", item))
    return found


def _story(folder: Traversable) -> Recipe:
    contents = tuple(walk(folder))
    readme = dict(contents).get("README.md")
    return Recipe(name=folder.name, kind="story", title=_first_line(readme), contents=contents)


def _config(path: str, file: Traversable) -> Recipe:
    name = path.rpartition(".")[0]
    return Recipe(name=name, kind="config", title=_first_line(file), contents=((file.name, file),))


def _sorted(folder: Traversable) -> list[Traversable]:
    items = (item for item in folder.iterdir() if item.name not in {"__pycache__", "runs"})
    return sorted(items, key=lambda item: item.name)


def _first_line(file: Traversable | None) -> str:
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    return next((line.lstrip("# ").rstrip(".") for line in lines if line.strip("# ")), "")


@click.group("recipes", epilog=examples("genai recipes ls", "genai recipes cp quickstart my-quickstart"))
def command() -> None:
    """Ready-made stories and job files to read and to copy."""


@command.command("ls", epilog=examples("genai recipes ls", "genai recipes ls --json"))
@common_options
def list_recipes(output: Output) -> None:
    """List what is shipped."""
    recipes = find_recipes().values()
    output.table(
        ["name", "kind", "what"],
        [(recipe.name, recipe.kind, recipe.title) for recipe in recipes],
        {"recipes": [{"name": recipe.name, "kind": recipe.kind, "title": recipe.title} for recipe in recipes]},
    )


@command.command("show", epilog=examples("genai recipes show quickstart", "genai recipes show finetune/quickstart"))
@click.argument("name")
@common_options
def show_recipe(name: str, output: Output) -> None:
    """Print the files of a recipe."""
    contents = {path: file.read_text(encoding="utf-8") for path, file in get_recipe(name).contents}
    text = next(iter(contents.values()))
    if len(contents) > 1:
        text = "\n".join(f"==> {path} <==\n{text}" for path, text in contents.items())
    output.result(text.rstrip("\n"), {"name": name, "files": contents})


@command.command(
    "cp", epilog=examples("genai recipes cp quickstart my-quickstart", "genai recipes cp finetune/quickstart .")
)
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@common_options
def copy_recipe(name: str, folder: Path, output: Output) -> None:
    """Copy a recipe into DIR; nothing is overwritten."""
    recipe = get_recipe(name)
    written = copy_files(recipe.contents, folder)
    lines = [f"wrote {path}" for path in written]
    lines += [f"next: {step}" for step in _next_steps(recipe, written)]
    output.result("\n".join(lines), {"name": name, "files": written})


def _next_steps(recipe: Recipe, written: list[Path]) -> list[str]:
    if recipe.kind == "config":
        verb = recipe.name.partition("/")[0]
        return [f"genai {verb} {written[0]} --dry-run"]
    return [f"bash {path}" for path in written if path.name == "run.sh"]
