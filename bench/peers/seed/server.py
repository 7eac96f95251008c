#!/usr/bin/python3
"""The seed's stack: an asyncio HTTP server that counts in PostgreSQL.

One UPDATE ... RETURNING per request, on a pool of ten connections, as such
servers are commonly written. It is here to be measured next to counterd: any
path counts and answers the new number, GET /count answers the count.

With --names N each path has a row of its own, and the first N are there already.
With --mem there is no database: aiohttp alone, the count in a variable.

Needs Debian's python3-aiohttp, python3-asyncpg and python3-uvloop.
"""

import argparse
import asyncio

from aiohttp import web

SCHEMA = "CREATE TABLE IF NOT EXISTS seed_counter (id int PRIMARY KEY, value bigint NOT NULL)"
FIRST = "INSERT INTO seed_counter (id, value) VALUES (1, 0) ON CONFLICT (id) DO NOTHING"
HIT = "UPDATE seed_counter SET value = value + 1 WHERE id = 1 RETURNING value"
COUNT = "SELECT value FROM seed_counter WHERE id = 1"

NAMES_SCHEMA = "CREATE TABLE IF NOT EXISTS seed_names (name text PRIMARY KEY, value bigint NOT NULL)"
NAMES_FIRST = "INSERT INTO seed_names SELECT '/' || n, 0 FROM generate_series(1, $1::int) n ON CONFLICT DO NOTHING"
NAMES_HIT = "UPDATE seed_names SET value = value + 1 WHERE name = $1 RETURNING value"
NAMES_NEW = "INSERT INTO seed_names VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET value = seed_names.value + 1 RETURNING value"
NAMES_COUNT = "SELECT sum(value)::bigint FROM seed_names"


class Database:
    """The count in PostgreSQL."""

    def __init__(self, dsn):
        self.dsn = dsn

    async def start(self, app):
        import asyncpg

        self.pool = await asyncpg.create_pool(self.dsn, min_size=10, max_size=10)
        await self.pool.execute(SCHEMA)
        await self.pool.execute(FIRST)

    async def stop(self, app):
        await self.pool.close()

    async def hit(self, path):
        return await self.pool.fetchval(HIT)

    async def count(self):
        return await self.pool.fetchval(COUNT)


class Names(Database):
    """A count for each path in PostgreSQL; the first so many paths are there."""

    def __init__(self, dsn, names):
        super().__init__(dsn)
        self.names = names

    async def start(self, app):
        import asyncpg

        self.pool = await asyncpg.create_pool(self.dsn, min_size=10, max_size=10)
        await self.pool.execute(NAMES_SCHEMA)
        await self.pool.execute(NAMES_FIRST, self.names)

    async def hit(self, path):
        value = await self.pool.fetchval(NAMES_HIT, path)
        return value or await self.pool.fetchval(NAMES_NEW, path)

    async def count(self):
        return await self.pool.fetchval(NAMES_COUNT)


class Memory:
    """The count in a variable: what the HTTP side can do at most."""

    def __init__(self):
        self.value = 0

    async def start(self, app):
        pass

    async def stop(self, app):
        pass

    async def hit(self, path):
        self.value += 1
        return self.value

    async def count(self):
        return self.value


def application(store):
    async def hit(request):
        return web.Response(text=f"{await store.hit(request.path)}\n")

    async def count(request):
        return web.Response(text=f"{await store.count()}\n")

    app = web.Application()
    app.on_startup.append(store.start)
    app.on_cleanup.append(store.stop)
    app.router.add_get("/count", count)
    app.router.add_route("*", "/{path:.*}", hit)
    return app


async def serve(app, host, port):
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        host, port = runner.addresses[0][:2]
        print(f"listening on {host}:{port}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--dsn", help="where PostgreSQL is, as asyncpg takes it")
    parser.add_argument("--names", type=int, help="a row for each path, so many of them made at the start")
    parser.add_argument("--mem", action="store_true", help="count in memory, without a database")
    args = parser.parse_args()
    if args.mem == bool(args.dsn):
        parser.error("give either --dsn or --mem")
    if args.loop == "uvloop":
        import uvloop

        uvloop.install()
    if args.mem:
        store = Memory()
    elif args.names:
        store = Names(args.dsn, args.names)
    else:
        store = Database(args.dsn)
    try:
        asyncio.run(serve(application(store), args.host, args.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
