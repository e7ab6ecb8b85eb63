"""`berth load`: measure an endpoint's throughput, latency and cost under rising load.

    berth load flowers photos/test
    berth load flowers photos/test --rate 200 --p99 300

It doubles the number of concurrent requests until throughput stops rising. It works with any
endpoint that accepts images, whatever its container.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from container.files.regular import open_regular, read_bounded, size_of
from local.client import plan
from local.client.console import print_note, printable, table_console
from local.client.images import ImageFile, find_images
from local.client.load import Level, measure
from local.commands.invoke import EndpointClient, error_line, payload_limit
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError
from local.pages.load_page import page, write_page
from local.requests.prices import AS_OF, REGION
from local.results.load_curve import (
    SAFETY_FACTOR,
    Sizing,
    VariantCapacity,
    calls_per_instance,
    fastest_within,
    knee,
    saturated,
    size,
)

MAX_IMAGES = 100
"""Most files to send, evenly spaced among those found: they are held in memory."""
BUSY = 0.7
"""Share of a core above which this process, a single interpreter, may be the bottleneck."""


@with_common
def load(
    common: CommonOptions,
    endpoint: Annotated[str, typer.Argument(help="the endpoint's name")],
    images: Annotated[list[Path], typer.Argument(help="image files, or folders of them")],
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="seconds per concurrency level")
    ] = 10.0,
    max_concurrency: Annotated[
        int, typer.Option(min=1, max=512, help="most concurrent requests")
    ] = 64,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="requests a second to size and price the endpoint for"),
    ] = None,
    p99: Annotated[
        float | None,
        typer.Option(min=0.001, help="latency target: milliseconds for 99 % of the requests"),
    ] = None,
    variant: Annotated[str | None, typer.Option(help="the production variant")] = None,
    target_model: Annotated[
        str | None,
        typer.Option(metavar="NAME.tar.gz", help="model archive, for a multi-model endpoint"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, writable=True, help="HTML report (default: ENDPOINT-load.html)"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    """Measure an endpoint under rising load and plot throughput against latency."""
    found = find_images(images)
    step = -(-len(found) // MAX_IMAGES)
    files = found[::step]
    target = common.connect(needs_role=False)
    if target.plan:
        request = EndpointClient(
            None, endpoint, variant=variant, target_model=target_model
        ).request(f"<the bytes of {files[0].name}>", files[0].content_type)
        plan.show(target, [("InvokeEndpoint", request)])
        print(f"for {seconds:g} s with 1 concurrent request, then 2, 4, … up to {max_concurrency}")
        return
    sagemaker = target.client("sagemaker")
    limit = payload_limit(sagemaker, endpoint)
    capacity = describe_capacity(sagemaker, endpoint, variant)
    runtime = target.client("sagemaker-runtime", connections=max_concurrency, attempts=1)
    client = EndpointClient(runtime, endpoint, limit, variant=variant, target_model=target_model)
    requests = [client.request(_read(file, limit), file.content_type) for file in files]

    def send(number: int) -> str | None:
        try:
            runtime.invoke_endpoint(**requests[number % len(requests)])["Body"].read()
        except Exception as error:
            return error_line(error)
        return None

    failure = send(0)
    if failure:
        raise UserError(f"endpoint {endpoint}: {files[0].name}: {failure}")
    measure(send, 1, min(1.0, seconds))  # warm-up: opens connections, fills caches
    levels, ended = _rise(send, seconds, max_concurrency)
    answered = [level for level in levels if level.latencies]
    if not answered:
        why = ", ".join(levels[0].errors)
        raise UserError(f"endpoint {endpoint}: every request failed: {why}")
    best = knee(answered)
    within = best if p99 is None else fastest_within(answered, p99 / 1000)
    chosen = within or best
    sizing = size(chosen, capacity, rate) if rate and capacity and within else None
    facts = [
        f"{ended}.",
        *_facts(best, chosen, capacity, p99 if within else None),
        *([_price(sizing, capacity, target.where)] if sizing and capacity else []),
        *_doubts(levels),
    ]
    path = output or Path(f"{endpoint}-load.html")
    if as_json:
        json.dump(_document(endpoint, levels, best, chosen, capacity, sizing), sys.stdout, indent=2)
        print()
    else:
        _print_table(levels, best)
        for fact in facts:
            print(fact)
    # Last: what was measured is told even where no page can be written.
    write_page(path, page(endpoint, facts, answered, best))
    if not as_json:
        print(path)
    if within is None:
        raise UserError(
            f"--p99 {p99:g}: not met; with one request at a time it is "
            f"{1000 * answered[0].percentile(99):,.0f} ms"
        )


def _rise(send: Any, seconds: float, most: int) -> tuple[list[Level], str]:
    """The levels 1, 2, 4, …, and the reason for stopping."""
    levels: list[Level] = []
    concurrency = 1
    while True:
        level = measure(send, concurrency, seconds)
        levels.append(level)
        print_note(
            f"{concurrency} concurrent: {level.rate:,.1f} requests/s, "
            f"median {1000 * level.percentile(50):,.0f} ms, "
            f"p99 {1000 * level.percentile(99):,.0f} ms"
        )
        reason = saturated(levels)
        if reason:
            return levels, f"stopped at {_requests(concurrency)} at once: {reason}"
        if concurrency == most:
            return levels, f"stopped at {_requests(most)} at once, the --max-concurrency"
        concurrency = min(2 * concurrency, most)


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"


def _read(image: ImageFile, limit: int) -> bytes:
    try:
        with open_regular(image.path) as file:
            size = size_of(file)
            if size <= limit:
                return read_bounded(file)
    except OSError as error:
        raise UserError(f"{image.name}: cannot be read: {error.strerror}") from None
    raise UserError(f"{image.name}: found {size:,} bytes, expected at most {limit:,} in a request")


def describe_capacity(sagemaker: Any, endpoint: str, variant: str | None) -> VariantCapacity | None:
    """The capacity of the endpoint or of one variant; None if its instance types differ."""
    described = sagemaker.describe_endpoint(EndpointName=endpoint)
    config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    types = {each["VariantName"]: each.get("InstanceType") for each in config["ProductionVariants"]}
    variants = [
        each
        for each in described["ProductionVariants"]
        if variant is None or each["VariantName"] == variant
    ]
    if not variants:
        raise UserError(
            f"--variant: found {variant}, expected a variant of endpoint {endpoint}: "
            f"{', '.join(types)}"
        )
    if len({types.get(each["VariantName"]) for each in variants}) > 1:
        return None
    serverless = variants[0].get("CurrentServerlessConfig")
    if serverless:
        return VariantCapacity(None, memory_gb=serverless["MemorySizeInMB"] / 1024)
    count = sum(each.get("CurrentInstanceCount", 1) for each in variants)
    return VariantCapacity(types.get(variants[0]["VariantName"]), max(1, count))


def _facts(
    best: Level, chosen: Level, capacity: VariantCapacity | None, p99: float | None
) -> list[str]:
    def said(level: Level) -> str:
        return (
            f"{level.rate:,.1f} requests/s with {level.concurrency} concurrent, "
            f"median {1000 * level.percentile(50):,.0f} ms, "
            f"p99 {1000 * level.percentile(99):,.0f} ms"
        )

    lines = [f"knee: {said(best)}; beyond it latency grows faster than throughput"]
    if p99 is not None:
        lines.append(f"most within {p99:g} ms: {said(chosen)}")
    if capacity is None:
        lines.append("the variants have different instance types: choose one with --variant")
    elif capacity.instance_type is not None:
        lines.append(
            f"autoscaling: berth deploy --calls-per-instance "
            f"{calls_per_instance(chosen, capacity):.0f} ({SAFETY_FACTOR:.0%} of that per minute, "
            "the safety factor that AWS recommends to start with)"
        )
    return lines


def _price(sizing: Sizing, capacity: VariantCapacity, where: str) -> str:
    what = (
        "serverless"
        if sizing.instances is None
        else f"{sizing.instances} x {capacity.instance_type}"
    )
    cost = "price unknown"
    if sizing.hourly is not None and sizing.monthly is not None:
        cost = (
            f"{sizing.hourly:,.3g} USD an hour, {sizing.monthly:,.2f} a month "
            f"(on demand in {REGION}, {AS_OF})"
        )
    here = "" if where == "aws" else "; measured on this machine, not on such instances"
    return f"for {sizing.rate:g} requests/s: {what}, {cost}{here}"


def _doubts(levels: Sequence[Level]) -> list[str]:
    busiest = max(levels, key=lambda level: level.client_cpu)
    lines = []
    if busiest.client_cpu > BUSY:
        lines.append(
            f"with {busiest.concurrency} concurrent requests this client used "
            f"{busiest.client_cpu:.0%} of a core: it may be the bottleneck"
        )
    for level in levels:
        lines += [
            f"with {level.concurrency} concurrent, {count:,} requests failed: {printable(line)}"
            for line, count in level.errors.items()
        ]
    return lines


def _print_table(levels: Sequence[Level], best: Level) -> None:
    from rich.table import Table

    table = Table()
    for name in ("concurrency", "requests/s", "median ms", "p90 ms", "p99 ms", "failed", ""):
        table.add_column(name, justify="right")
    for level in levels:
        table.add_row(
            str(level.concurrency),
            f"{level.rate:,.1f}",
            *(f"{1000 * level.percentile(percent):,.0f}" for percent in (50, 90, 99)),
            f"{level.error_share:.1%}",
            "knee" if level is best else "",
        )
    table_console().print(table)


def _document(
    endpoint: str,
    levels: Sequence[Level],
    best: Level,
    chosen: Level,
    capacity: VariantCapacity | None,
    sizing: Sizing | None,
) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "instance_type": capacity.instance_type if capacity else None,
        "instances": capacity.instances if capacity else None,
        "levels": [
            {
                "concurrency": level.concurrency,
                "requests_per_second": level.rate,
                "seconds": level.seconds,
                **{
                    f"p{percent}_ms": 1000 * level.percentile(percent) if level.latencies else None
                    for percent in (50, 90, 99)
                },
                "answered": len(level.latencies),
                "failed": dict(level.errors),
                "client_cpu": level.client_cpu,
            }
            for level in levels
        ],
        "knee": best.concurrency,
        "chosen": chosen.concurrency,
        "for_rate": None
        if sizing is None
        else {
            "requests_per_second": sizing.rate,
            "instances": sizing.instances,
            "usd_per_hour": sizing.hourly,
        },
    }
