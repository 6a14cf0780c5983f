"""The terminal: one file a command, loaded when it is called."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "predict": "A class map and polygons of a scene.",
    "batch": "Class maps and polygons of many scenes; resumable, on one machine or a cluster.",
    "polygonize": "Polygons of a class raster, whoever made it.",
    "zonal": "Area and share of each class of a map in each zone.",
    "train": "A model from images with labels.",
    "data": "What is in a training set, and what is wrong with it.",
    "evaluate": "How good a class map or a model is, against labels or sampled points.",
    "compare": "Models side by side: a table, and a figure.",
    "info": "What a scene is, and whether a model fits it.",
    "models": "The models that are there, and their cards.",
    "doctor": "What is installed, what computes, what is missing.",
    "worker": "One job for a host program such as QGIS, in lines of JSON.",
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called, so that help is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command with a name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f".{cmd_name}", __name__), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="rs-segment", prog_name="rs-segment")
def main() -> None:
    """Turn satellite and aerial images into class maps and polygons.

    \b
    rs-segment predict scene.tif
    rs-segment predict scene.tif -o maps/ --model my-model/ --bidx 4,3,2
    rs-segment info scene.tif --model dubai-landcover

    Exit codes: 0 done, 1 failed, 2 wrong usage, 4 input refused, 5 out of disk, memory or device,
    130 and 143 cancelled.
    """
