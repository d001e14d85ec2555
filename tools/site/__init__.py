"""The documentation site: where files stand on it, the pages that are made from code, and the hooks of mkdocs."""
