"""``appcat completion``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    """Shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.", show_default=False)]) -> None:
    """Print what makes TAB complete in a shell.

    Commands, options, the names of vms and templates.

    \b
    Examples:
      eval "$(appcat completion bash)"    # in ~/.bashrc
      appcat completion zsh > "${fpath[1]}/_appcat"
      appcat completion fish > ~/.config/fish/completions/appcat.fish
    """
    import importlib

    from appcat.cli.output import say

    say(
        importlib.import_module("typer.completion").get_completion_script(
            prog_name="appcat", complete_var="_APPCAT_COMPLETE", shell=shell
        )
    )
