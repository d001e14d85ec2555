"""The layouts of people's own problems for RL and evaluation, one per file; the folder is listed.

A file has the keys that a record of its layout must have (`KEYS`), others that it reads (`OPTIONAL`), the template
of its questions (`TEMPLATE`), whether a record holds the whole prompt (`IS_WHOLE`), so that the prompt itself asks for
a form of answer, whether programs are graded (`IS_CODE`), and `read(record, is_graded)`, which returns a `Problem`.
With an own reward `is_graded` is false, and a ground truth is not needed.
"""
