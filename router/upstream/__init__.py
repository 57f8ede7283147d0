"""The one door to the network: our own connection pool on asyncio and httptools.

It moves bytes and says what happened (`Answer`, `Silence`, `Broken`); it knows no dialect, no key and no policy.
"""
