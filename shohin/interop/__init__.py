"""Networks of other frameworks. An importer reads its origin into a ``foreign`` graph and has one table of operators; the rest is shared."""
