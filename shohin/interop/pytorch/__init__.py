"""Networks of PyTorch. The table and its rules need no torch; ``read``, ``export`` and ``importer`` do."""
