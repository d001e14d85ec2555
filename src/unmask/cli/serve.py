"""`unmask serve`: an OpenAI-compatible server of one model; imports the server when it runs."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli.options import ModelOptions, ModelPath, PresetName, sampling_of, with_options

if TYPE_CHECKING:
    from uvicorn import Server

    from unmask.configs.engine import EngineConfig
    from unmask.configs.model import ModelConfig
    from unmask.server.params import ServerParams

app = typer.Typer()


@app.command(
    no_args_is_help=True,
    epilog="Example: unmask serve runs/quickstart/rl/model --name mine; then any client of OpenAI's API "
    "with base_url = http://127.0.0.1:8000/v1. See docs/serve.md.",
)
@with_options
def serve(  # noqa: PLR0913 - one argument per option
    model: ModelPath,
    loading: ModelOptions,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="The model's name in requests; MODEL by default.")
    ] = None,
    preset: PresetName = None,
    max_sequences: Annotated[int, typer.Option(help="Responses written at the same time.")] = 256,
    cache_tokens: Annotated[
        int | None, typer.Option(help="Tokens whose keys and values are cached, at most.")
    ] = None,
    max_waiting: Annotated[
        int, typer.Option(help="Responses that wait beyond these; more are refused with 429.")
    ] = 256,
    request_seconds: Annotated[float, typer.Option(help="Time limit of a request.")] = 600.0,
    shutdown_seconds: Annotated[
        int, typer.Option(help="Time that running requests have after SIGTERM.")
    ] = 30,
    max_body_bytes: Annotated[int, typer.Option(help="Limit of a request's body.")] = 2**24,
    max_images: Annotated[int, typer.Option(help="Limit of a request's images.")] = 8,
    max_image_bytes: Annotated[int, typer.Option(help="Limit of an image's file.")] = 10 * 2**20,
    api_key: Annotated[
        str,
        typer.Option(
            envvar="UNMASK_API_KEY", show_envvar=True, help="The key that requests must carry."
        ),
    ] = "",
    updates_weights: Annotated[
        bool, typer.Option("--updates-weights", help="Allow POST /admin/update_weights.")
    ] = False,
) -> None:
    """Serve a model over HTTP, with OpenAI's chat and completions API."""
    from unmask.configs.engine import EngineConfig
    from unmask.server.listen import address_of, listen
    from unmask.server.params import ServerParams

    params = ServerParams(
        name or model,
        sampling_of(preset),
        max_waiting,
        request_seconds,
        shutdown_seconds,
        max_body_bytes,
        max_images,
        max_image_bytes,
        api_key=api_key,
        updates_weights=updates_weights,
    )
    listener = listen(host, port, bool(api_key))  # before the weights, which take long
    engine = EngineConfig(max_sequences=max_sequences, cache_tokens=cache_tokens)
    server = _server(loading.config(model), engine, params)
    address = address_of(listener)
    sys.stderr.write(f"{params.model_name} at {address}/v1, playground at {address}/\n")
    server.run(sockets=[listener])


def _server(model: "ModelConfig", engine: "EngineConfig", params: "ServerParams") -> "Server":
    """Load a model and return its server."""
    try:
        from unmask.server.serve import uvicorn_server
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise ValueError(
            f"unmask serve needs {error.name}, which is not installed: pip install 'unmask[serve]'"
        ) from error
    from unmask.engine.build import build_llm

    return uvicorn_server(build_llm(model, engine), params)
