"""The commands; each calls one function and holds no logic."""

from moerec.cli.entry import app, main

__all__ = ["app", "main"]
