"""`moerec generate`: reviews in published files, and a server of their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moerec.cli.options import AsJson
from moerec.cli.output import print_json, show

generate_app = typer.Typer(no_args_is_help=True, help="Write files of generated data with planted structure.")


@generate_app.command("amazon-reviews")
def generate_amazon(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the files.")],
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = 1000,
    items: Annotated[int, typer.Option(min=4, help="Number of products, over four categories.")] = 400,
    reviews_per_user: Annotated[float, typer.Option(min=1, help="Mean number of reviews of a user.")] = 12,
    dirt: Annotated[
        float, typer.Option(min=0, max=1, help="Share of lines with a broken copy beside them, counted in dirt.json.")
    ] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Write plain files instead of gzipped ones.")] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Write a picture of each product too, for `moerec generate image-server`.")
    ] = False,
    image_address: Annotated[
        str, typer.Option(help="With --images: where the pictures will be served; it stands in the files of products.")
    ] = "http://127.0.0.1:8765",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Reviews and products in the files of Amazon Reviews 2023, with the true probabilities beside them."""
    from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
    from moerec.dataset.generators.amazon_tastes import GeneratedReviews

    address = image_address if images else None
    shape = GeneratedReviews(users, items, seed, reviews_per_user, dirt, not plain, address)
    made = generate_amazon_reviews(out, shape)
    if as_json:
        print_json(made | {"categories": shape.categories})
        return
    broken = f" and {made['broken_lines']:,} broken lines" if dirt else ""
    pictures = f" and {made['pictures']:,} pictures" if images else ""
    show(f"{made['reviews']:,} reviews{broken}{pictures} in {out}", wrap=False)
    show(f"dataset: {{source: amazon_reviews, path: {out}, categories: [{', '.join(shape.categories)}]}}", wrap=False)


@generate_app.command("image-server")
def image_server(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `generate amazon-reviews --images` wrote.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8765,
    faults: Annotated[float, typer.Option(min=0, max=1, help="Share of addresses that fail.")] = 0,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="A fault to be drawn; repeat for several; by default all.")
    ] = None,
    recover_after: Annotated[
        int | None, typer.Option(min=0, help="Requests after which a fault that may pass is over; never by default.")
    ] = None,
    retry_after: Annotated[int, typer.Option(min=0, help="Seconds that a busy answer asks to wait.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides which addresses fail, and how.")] = 0,
) -> None:
    """Serve generated pictures on this machine, and fail on purpose, until Ctrl-C."""
    import asyncio

    from moerec.dataset.generators.image_server import ImageServer, ImageServerConfig

    config = ImageServerConfig(faults, tuple(kind or ()), recover_after, retry_after, seed=seed)
    server = ImageServer(folder, config, port)
    asyncio.run(server.serve(lambda: show(f"{server.address} serves {folder}; Ctrl-C ends it", wrap=False)))
