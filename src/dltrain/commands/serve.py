"""``dltrain serve RUN``: a page and a JSON endpoint for a trained run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dltrain.commands.arguments import Parser
from dltrain.errors import UserError, printable
from dltrain.runs.finding import find_run

HOST, PORT, LIMIT = "127.0.0.1", 8000, 16.0
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")


def serve(arguments: Sequence[str]) -> int:
    """Answer requests until Ctrl-C; return the exit code.

    Raises :class:`UserError` where the run answers nothing, or the port is taken.
    """
    asked = _parser().parse(arguments)
    if not 0 < asked.limit < math.inf:  # not a number is refused, too
        raise UserError(f"serve: --limit is above 0 MB, got {asked.limit:g}.")
    if not 0 <= asked.port < 2**16:
        raise UserError(f"serve: --port is from 0 to 65535, got {asked.port}.")
    folder = find_run(asked.run, asked.output_dir)
    try:
        import uvicorn

        from dltrain.inference.server import application
    except ImportError as error:
        raise UserError(f"serve needs {error.name}: pip install 'dltrain[serve]'") from error
    import socket

    from dltrain.inference.predictor import Predictor

    predictor = Predictor(folder, asked.weights, asked.device)
    predictor.require_predicts()
    family = socket.AF_INET6 if ":" in asked.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((asked.host, asked.port))
        except OSError as error:
            raise UserError(
                f"serve: {asked.host}:{asked.port} cannot be listened on: {error.strerror}. "
                "--port 0 takes one that is free."
            ) from error
        port = listening.getsockname()[1]
        shown = f"[{asked.host}]" if ":" in asked.host else asked.host
        hosts = LOOPBACK if asked.host in LOOPBACK else ("*",)
        app = application(predictor, hosts, asked.limit)
        print(
            f"{printable(str(predictor.path))}: http://{shown}:{port}/   (Ctrl-C ends it)",
            flush=True,
        )
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        uvicorn.Server(config).run(sockets=[listening])
    return 0


def _parser() -> Parser:
    parser = Parser(
        "serve",
        "A page to drop an image, paste a text or type a row, and a JSON endpoint: POST "
        '{"examples": […]}, or an image as it is, to /predict. It can be reached from this '
        "machine alone, unless --host says otherwise; it asks nobody for a password.",
        ["latest", "lenet5-mnist --port 9000 --limit 2"],
    )
    add = parser.add_argument
    add("--port", type=int, default=PORT, metavar="N", help=f"default {PORT}; 0: one that is free")
    add("--host", default=HOST, metavar="NAME", help="0.0.0.0: whoever reaches this machine")
    add(
        "--limit", type=float, default=LIMIT, metavar="MB",
        help=f"the largest request (default {LIMIT:g})",
    )  # fmt: skip
    parser.add_weights()
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda:0, … (default auto)")
    return parser
