"""The layouts of preference pairs, one per file; the folder is listed.

A file has the keys that a record of its layout must have (`KEYS`), others that it reads (`OPTIONAL`), and
`read(record)`, which returns a `PairExample` and raises a ValueError that names the field.
"""
