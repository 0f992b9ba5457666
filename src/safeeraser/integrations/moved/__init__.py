"""Modules by the names that they had before, for scripts that import them; ``safeeraser.__path__`` leads here."""
