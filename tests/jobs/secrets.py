"""Workflows with secret parameters."""

from __future__ import annotations

import logging
from typing import Annotated, Any
from urllib.parse import quote

from orchestration.adapters.command import command
from orchestration.sdk import Context, Next, Retry, Secret, StageFailed, WaitForRuns, each, stage, workflow

logger = logging.getLogger(__name__)


@stage
def leak(ctx: Context, api_key: str, login: dict[str, str]) -> dict[str, Any]:
    """Write the secrets wherever a stage can write."""
    logger.warning("Calling with %s", api_key)
    ctx.log(f"key {api_key}, again {api_key!r}, in an address {quote(api_key, safe='')}")
    ctx.progress(0.5, api_key)
    try:
        raise ValueError(api_key)
    except ValueError:
        logger.exception("It failed")
    return {"key": api_key, api_key: [login["password"]], "length": len(api_key), "is_text": True}


@stage
def fail(ctx: Context, inputs: dict[str, Any]) -> None:
    assert ctx.results["leak"]["key"] == "***"
    if len(inputs["login"]["password"]) < 8:
        raise StageFailed("too short")
    raise RuntimeError(f"Refused {inputs['api_key']} of {inputs['login']}")


@workflow()
def leaky(
    prompt: str,
    *,
    api_key: Annotated[str, Secret()],
    login: dict[str, Annotated[str, Secret()]],
    region: str = "eu",
    other: Annotated[str | None, Secret()] = None,
) -> Any:
    return [leak, fail]


@stage
def whisper(ctx: Context, api_key: str, login: dict[str, str]) -> None:
    """Write the secrets into streams, in parts."""
    with ctx.stream("text") as text, ctx.stream("bytes", content_type="bytes") as data:
        for character in f"key {api_key}, {api_key[:6]}":
            text.write(character)
            data.write(character.encode())
        text.write(f", {login['password']}")


@workflow()
def whispering(prompt: str, *, api_key: Annotated[str, Secret()], login: dict[str, Annotated[str, Secret()]]) -> Any:
    return [whisper]


@workflow(adapter="command")
def secret_in_command(prompt: str, *, api_key: Annotated[str, Secret()]) -> Any:
    return [command("echo", api_key)]


@workflow(adapter="command")
def secret_on_stdin(prompt: str, *, api_key: Annotated[str, Secret()]) -> Any:
    return [command("python3", "-c", "import json, sys; print(json.load(sys.stdin)['inputs']['api_key'])", name="show")]


@workflow()
def raising(prompt: str, *, api_key: Annotated[str, Secret()]) -> Any:
    raise ValueError(f"cannot use {api_key}")


@stage
def use(ctx: Context, inputs: dict[str, Any], text: str = "") -> None:
    """Use a text."""


@workflow()
def inner(prompt: str, *, text: str = "", api_key: Annotated[str | None, Secret()] = None) -> Any:
    return [use]


@stage
def pass_on(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Pass the secret on, to where the parameter `to` says."""
    api_key, to = inputs["api_key"], inputs["to"]
    if to == "stage":
        return Next(use.given(f"Bearer {api_key}"))
    if to == "prompt":
        return WaitForRuns(ctx.start(inner, f"with {api_key}"))
    if to == "key":
        return WaitForRuns(ctx.start(inner, key=api_key))
    return WaitForRuns(ctx.start(inner, **{to: api_key}))


@workflow()
def passing(prompt: str, *, api_key: Annotated[str, Secret()], to: str) -> Any:
    return [pass_on]


@stage
def list_keys(ctx: Context, api_key: str) -> list[dict[str, str]]:
    """Return values that contain the secret."""
    return [{"region": "eu", "key": api_key}]


@stage(retries=Retry(max_attempts=3))
def use_each(ctx: Context, value: dict[str, str]) -> None:
    """Use one of them."""


@workflow()
def mapping(prompt: str, *, api_key: Annotated[str, Secret()]) -> Any:
    return [list_keys, each(use_each, of=list_keys)]
