"""The layouts of records that `unmask sft` reads, one per file; the folder is listed.

A file has the keys that a record of its layout must have (`KEYS`), others that it reads (`OPTIONAL`), and
`read(record)`, which returns an `Example` and raises a ValueError that names the field.
"""
