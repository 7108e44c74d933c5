"""Generators: files in the form of published data, of any size, with planted structure and the truth beside it."""
