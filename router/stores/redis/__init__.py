"""Redis, where several replicas share what they know. `Shared` is the whole of it; `redis` is imported nowhere else."""

from router.stores.redis.limits import RedisStore
from router.stores.redis.shared import Shared

__all__ = ["RedisStore", "Shared"]
