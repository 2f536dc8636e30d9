"""The command `layerwise`: parses, calls the API, turns errors into plain lines and exit codes. Imports no torch."""

import os
import signal
import sys
from types import FrameType

import typer

import layerwise
from layerwise.cli import catalogue, data, explain, export, infer, runs, train
from layerwise.core.errors import EXIT_DONE, EXIT_INTERNAL, EXIT_STOPPED, EXIT_WRONG, LayerwiseError

app = typer.Typer(
    name="layerwise",
    help="The deep-learning landscape as one package: train, evaluate, predict, generate."
    "\n\nExample: layerwise train lenet5",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (train, infer, export, explain, data, runs, catalogue):
    module.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"layerwise {layerwise.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 2 wrong, 3 cannot work here, 75 stopped, 1 internal error.

    `--debug` anywhere shows tracebacks.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"] or ["--help"]
    # Spinning threads collapse when the machine has other work; set before torch loads its OpenMP.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    signal.signal(signal.SIGTERM, _stop)
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="layerwise", standalone_mode=False)
        return code if isinstance(code, int) else EXIT_DONE
    except typer.Abort:
        return EXIT_STOPPED
    except LayerwiseError as error:
        if debug:
            raise
        rank = os.environ.get("RANK", "0")
        if rank == "0" or error.exit_code != EXIT_STOPPED:  # all processes stop together; the first one says so
            process = "" if rank == "0" else f" (process {rank})"
            print(f"{'stopped' if error.exit_code == EXIT_STOPPED else 'error'}{process}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        print("stopped: on request, before the next state was saved; the states before are whole.", file=sys.stderr)
        return EXIT_STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except Exception as error:
        explain = getattr(error, "format_message", None)
        if explain is not None:  # the parser's own, whose class has moved between versions of typer
            first = next((a for a in arguments if not a.startswith("-")), "")
            verb = f" {first}" if first in getattr(command, "commands", {}) else ""
            print(f"error: {explain()} See: layerwise{verb} --help", file=sys.stderr)
            return EXIT_WRONG
        if debug:
            raise
        print(
            f"internal error: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}. Run again "
            "with --debug for the traceback.",
            file=sys.stderr,
        )
        return EXIT_INTERNAL
