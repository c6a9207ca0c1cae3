"""What every job's command line shares: arguments, exit codes, errors as one sentence."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence

from clusterlib.config import dump_yaml, load_config
from clusterlib.errors import EXIT_BUG, EXIT_DONE, EXIT_INTERRUPTED, ClusterlibError, InputError
from clusterlib.stages.session import Session, open_session, stop_on_sigterm, write_record


def run_job(
    work: Callable[..., None], *, doc: str, name: str, parameters: Sequence[str] = ()
) -> int:
    """Run `work(session, **parameters)` for the command line; returns the exit code.

    `parameters` are the keys, besides settings, that the job takes as key=value.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m jobs.{name}",
        description=doc,
        epilog="Any setting can be given as key=value, for example clustering.k=40. Exit codes: "
        "0 done, 2 configuration, 3 input or access, 4 too many unusable images, 5 clustering "
        "impossible, 130 interrupted (run the same command again to resume).",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML, see configs/")
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved settings and stop"
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="overrides")
    args = parser.parse_intermixed_args()
    own = {key: text for key, _, text in (item.partition("=") for item in args.settings)}
    overrides = [item for item in args.settings if item.partition("=")[0] not in parameters]
    try:
        config = load_config(args.config, overrides=overrides)
        if args.print_config:
            print(dump_yaml(config), end="")
            return EXIT_DONE
        session = open_session(config)
    except ClusterlibError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return _guarded(
        session, lambda: work(session, **{k: own[k] for k in parameters if k in own}), name
    )


def _guarded(session: Session, work: Callable[[], None], name: str) -> int:
    code, reason = EXIT_BUG, "a bug: see the traceback"
    stop_on_sigterm()
    try:
        session.write_config()
        work()
        code, reason = EXIT_DONE, None  # type: ignore[assignment]
    except ClusterlibError as error:
        code, reason = error.exit_code, str(error)
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        code, reason = EXIT_INTERRUPTED, "interrupted"
        print("interrupted: run the same command again to resume", file=sys.stderr)
    except OSError as error:
        # Our own files are the only ones that are opened without a guard.
        code, reason = InputError.exit_code, f"{session.run.uri}: {error}"
        print(f"error: {reason}", file=sys.stderr)
    finally:
        with contextlib.suppress(OSError, ClusterlibError):
            write_record(session, job=name, exit_code=code, error=reason)
        session.close()
    return code
