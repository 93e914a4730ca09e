"""Completion of commands in bash: groups, choices and keys, as Hydra knows them.

``python -m nas_optuna.completion COMMAND -sc query=bash`` asks for them without importing what the command
itself needs, which takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

FLAGS = ("-sc", "--shell-completion")
INSTALL = "install=bash"

# Hydra's own script completes programs and Python files, but not ``python -m``. Words are cut from the line
# itself, because bash takes = and : for ends of words.
SCRIPT = r"""# nas_optuna: completion of groups, choices and keys
_nas_optuna_complete() {
    local line="${COMP_LINE:0:COMP_POINT}" words typed python command choices whole word before
    read -ra words <<< "$line"
    COMPREPLY=()
    case "${words[0]}" in
        scripts/run | ./scripts/run)
            # not the script itself: it would install what is missing
            typed="${words[0]}" python="${words[0]%/*}/../.venv/bin/python" command=nas_optuna ;;
        *)
            typed="${words[0]} -m ${words[2]}" python="${words[0]}" command="${words[2]}"
            [[ "${words[1]}" == -m ]] || return
            case "${words[2]}" in
                nas_optuna | nas_optuna.*) ;;
                *) return ;;
            esac ;;
    esac
    [[ "$line" == "$typed "* ]] || return
    choices=$(COMP_LINE="nas_optuna ${line#"$typed "}" \
        "$python" -m nas_optuna.completion "$command" -sc query=bash 2> /dev/null)
    word="${line##* }"
    whole=($(compgen -W "$choices" -- "$word"))
    before="${word%"${word##*[=:]}"}"
    [[ "$COMP_WORDBREAKS" == *=* ]] || before=""
    COMPREPLY=("${whole[@]#"$before"}")
    [[ "${COMPREPLY[0]}" != *[=./] ]] || compopt -o nospace 2> /dev/null
}
complete -o default -F _nas_optuna_complete python python3 scripts/run ./scripts/run
"""


def is_asked(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for the script."""
    return len(arguments) == 2 and arguments[0] in FLAGS and arguments[1] == INSTALL


def main() -> None:
    """Answer what bash asks of a command; one that takes no settings of Hydra's has no answer."""
    from nas_optuna import cli

    command = sys.argv.pop(1)
    if command in cli.COMMANDS:
        cli.COMMANDS[command]()


if __name__ == "__main__":
    main()
