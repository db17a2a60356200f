"""Programs that make parts of the documentation.

`python -m tools.commands` writes the reference of commands, `python -m tools.picture` the picture,
`python -m tools.schemas` the JSON schemas.
"""
