"""What Redis does for us, in Lua: each is one step for every replica, by Redis' own clock in microseconds.

Every script takes its keys, and one argument in MessagePack that names them by number; each answers {now, …}, so that
whoever asked knows what time it is there. Whole numbers below 2^53 throughout, which Lua's doubles hold exactly; what
needs more (units × time) is divided by who asks. Nothing is written before it is known that all of it will be.

A rate is a string "at rest amount span" (router/stores/buckets.py). What is held (running, reserved) is a hash of
`spent`, `held` and one field a hold, beside a sorted set of the holds by when they expire: a lost replica's end there.
"""

from typing import Final

_COUNTS: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local asked = cmsgpack.unpack(ARGV[1])

local function bucket(key, amount, span, at, rest)
  local text = redis.call('GET', key)
  if text then
    local a, r, of, over = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
    at, rest, of, over = tonumber(a), tonumber(r), tonumber(of), tonumber(over)
    if of ~= amount or over ~= span then
      at, rest = now + math.floor(math.max(0, at - now) * of / over * span / amount), 0
    end
  elseif at > now + span then
    at, rest = now + span, 0
  end
  if at < now then return now, 0 end
  return at, rest
end

local function pour(at, rest, moved, part, amount)
  at, rest = at + moved, rest + part
  if rest >= amount then at, rest = at + 1, rest - amount end
  if at < now then return now, 0 end
  return at, rest
end

-- Two spans at least: while any replica may remember a fuller bucket than this one, a missing key means lost data.
local function keep(key, at, rest, amount, span)
  local text = string.format('%.0f %.0f %.0f %.0f', at, rest, amount, span)
  redis.call('SET', key, text, 'PX', math.ceil(math.max(at - now, 2 * span) / 1000) + 1)
end

local function last(key, ttl, till)
  if till > 0 then
    redis.call('PEXPIREAT', key, till)
  elseif till < 0 then
    redis.call('PEXPIRE', key, ttl)
  end
end

local function purse(key, floor)
  local found = redis.call('HMGET', key, 'spent', 'held')
  local spent, held = tonumber(found[1] or 0), tonumber(found[2] or 0)
  return math.max(spent, floor), held
end

local function free(key, queue, hold)
  local n = redis.call('HGET', key, ':' .. hold)
  if n then
    redis.call('HDEL', key, ':' .. hold)
    redis.call('HINCRBY', key, 'held', '-' .. n)
  end
  redis.call('ZREM', queue, hold)
end

local function sweep(key, queue)
  for _, hold in ipairs(redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, 100)) do
    free(key, queue, hold)
  end
end

local function put(key, queue, hold, n, expires, ttl, till)
  if redis.call('HSETNX', key, ':' .. hold, n) == 1 then redis.call('HINCRBY', key, 'held', n) end
  redis.call('ZADD', queue, expires, hold)
  last(key, ttl, till)
  last(queue, ttl, till)
end
"""

# {born, ttl ms, {{hold, mark, not after, {bound…}}…}}: a bound {1, key, moved, part, amount, span, most, at, rest} or
# {0, key (its queue is the next), n, amount, spent, till}; KEYS[1] is the name of this Redis. Answers for each {0, {{a,
# b}…}}, {which, a, b}: the one that has no room, or {-1}: too late to be of use to who asked (a stopped Redis does what
# it was told when it goes on). Or false: it is another Redis than the one that is meant.
TAKE: Final = (
    _COUNTS
    + """
if redis.call('GET', KEYS[1]) ~= asked[1] then return cmsgpack.pack({now, false}) end
local ttl = asked[2]

local function take(hold, mark, deadline, bounds)
  local group = KEYS[bounds[1][2]]
  local before = redis.call('HGET', mark, group)
  if before == 'x' or (not before and now > deadline) then return {-1} end
  local states = {}
  for i, b in ipairs(bounds) do
    local key, first, second = KEYS[b[2]], 0, 0
    if b[1] == 1 then
      first, second = bucket(key, b[5], b[6], b[8], b[9])
      if not before then
        local at, rest = pour(first, second, b[3], b[4], b[5])
        if at + (rest > 0 and 1 or 0) - now > b[7] then return {i, first, second} end
        first, second = at, rest
      end
    else
      sweep(key, KEYS[b[2] + 1])
      first, second = purse(key, b[5])
      if not before then
        if first + second + b[3] > b[4] then return {i, first, second} end
        second = second + b[3]
      end
    end
    states[i] = {first, second}
  end
  if before then return {0, states} end
  for i, b in ipairs(bounds) do
    local key = KEYS[b[2]]
    if b[1] == 1 then
      keep(key, states[i][1], states[i][2], b[5], b[6])
    else
      if states[i][1] > 0 then redis.call('HSET', key, 'spent', states[i][1]) end
      put(key, KEYS[b[2] + 1], hold, b[3], now + ttl * 1000, ttl, b[6])
    end
  end
  redis.call('HSET', mark, group, '1')
  redis.call('PEXPIRE', mark, ttl)
  return {0, states}
end

local verdicts = {}
for i, one in ipairs(asked[3]) do verdicts[i] = take(one[1], KEYS[one[2]], one[3], one[4]) end
return cmsgpack.pack({now, verdicts})
"""
)

# {born, number, ttl ms, voids, floors, rates, spends, frees, puts, marks}: what has happened, told once. KEYS[1] has
# the last number that this replica told; one told again is passed over; 0: no harm in hearing it again. KEYS[2]: the
# name of this Redis. Answers the states {{key, a, b}…}, or false where it is another than the one that is meant.
TELL: Final = (
    _COUNTS
    + """
local number, ttl = asked[2], asked[3]
if number > 0 and redis.call('GET', KEYS[2]) ~= asked[1] then return cmsgpack.pack({now, false}) end
local heard = tonumber(redis.call('GET', KEYS[1]) or 0)
local states, purses = {}, {}

local function void(mark, group, hold, rates, queues)
  if redis.call('HGET', mark, group) == '1' then
    for _, r in ipairs(rates) do
      local at, rest = bucket(KEYS[r[1]], r[4], r[5], now, 0)
      at, rest = pour(at, rest, r[2], r[3], r[4])
      keep(KEYS[r[1]], at, rest, r[4], r[5])
    end
    for _, k in ipairs(queues) do free(KEYS[k], KEYS[k + 1], hold) end
  end
  redis.call('HSET', mark, group, 'x')
  redis.call('PEXPIRE', mark, 1000)
end

if number == 0 or number > heard then
  for _, v in ipairs(asked[4]) do void(KEYS[v[1]], KEYS[v[2]], v[3], v[4], v[5]) end
  for _, f in ipairs(asked[5]) do
    local key = KEYS[f[1]]
    if f[2] == 1 then
      local at, rest = bucket(key, f[5], f[6], f[3], f[4])
      if f[3] > at then at, rest = math.min(f[3], now + f[6]), 0 end
      keep(key, at, rest, f[5], f[6])
    else
      local spent = purse(key, f[3])
      redis.call('HSET', key, 'spent', spent)
      last(key, ttl, f[4])
    end
  end
  for i, r in ipairs(asked[6]) do
    local at, rest = bucket(KEYS[r[1]], r[4], r[5], r[6], r[7])
    at, rest = pour(at, rest, r[2], r[3], r[4])
    keep(KEYS[r[1]], at, rest, r[4], r[5])
    states[#states + 1] = {r[1], at, rest}
  end
  for i, s in ipairs(asked[7]) do
    redis.call('HSET', KEYS[s[1]], 'spent', purse(KEYS[s[1]], s[3]) + s[2])
    last(KEYS[s[1]], ttl, s[4])
    purses[s[1]] = true
  end
  for _, f in ipairs(asked[8]) do
    free(KEYS[f[1]], KEYS[f[1] + 1], f[2])
    purses[f[1]] = true
  end
  for _, p in ipairs(asked[9]) do
    purses[p[1]] = true
    if p[4] > now then put(KEYS[p[1]], KEYS[p[1] + 1], p[2], p[3], p[4], ttl, p[5]) end
  end
  for k in pairs(purses) do
    local spent, held = purse(KEYS[k], 0)
    states[#states + 1] = {k, spent, held}
  end
  for _, k in ipairs(asked[10]) do redis.call('UNLINK', KEYS[k]) end
  if number > 0 then redis.call('SET', KEYS[1], number, 'EX', 172800) end
end
return cmsgpack.pack({now, states})
"""
)

# KEYS: replicas, rests, born. {replica, µs after which a silent one is gone, name of this Redis if it has none, {{name,
# µs}…}}. Answers {replicas, born, {name, µs left…}}: who is there, whether it is the Redis that we knew, who rests.
BEAT: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local asked = cmsgpack.unpack(ARGV[1])
redis.call('ZADD', KEYS[1], now, asked[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - asked[2])
redis.call('SET', KEYS[3], asked[3], 'NX')
for _, r in ipairs(asked[4]) do redis.call('ZADD', KEYS[2], 'GT', now + r[2], r[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local rests = redis.call('ZREVRANGEBYSCORE', KEYS[2], '+inf', now, 'WITHSCORES', 'LIMIT', 0, 1000)
for i = 2, #rests, 2 do rests[i] = tonumber(rests[i]) - now end
return cmsgpack.pack({now, {redis.call('ZCARD', KEYS[1]), redis.call('GET', KEYS[3]), rests}})
"""

# A claim is given up by who has it.
