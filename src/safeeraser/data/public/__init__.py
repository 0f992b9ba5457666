"""Public safety sets, read as their authors publish them; nothing of theirs ships.

``layout`` says what a set is and how its tables are read, ``sets`` has a reader for each. To add one, write a function
with the decorator ``public_set``, in ``sets`` or in a module of your own.
"""

from safeeraser.data.public.layout import PUBLIC_SETS, Item, Loaded, PublicSet, chosen, public_set, recognised

__all__ = ["PUBLIC_SETS", "Item", "Loaded", "PublicSet", "chosen", "public_set", "recognised"]
