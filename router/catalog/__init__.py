"""`catalog sync`: the Hub's own mapping of models to providers, written as tables beside the configuration.

One file a step: `client` asks and waits, `listing` follows the pages and keeps those that were read, `rows` says what
an answer means, `table` compares and writes, `sync` is the whole. Nothing here is on the path of a request.
"""

from router.catalog.client import Client, Unavailable
from router.catalog.listing import Kept
from router.catalog.sync import ROUTER, Synced, mapped, summary, sync
from router.catalog.table import file_of, write

__all__ = ["ROUTER", "Client", "Kept", "Synced", "Unavailable", "file_of", "mapped", "summary", "sync", "write"]
