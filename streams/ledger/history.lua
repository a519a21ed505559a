-- Append points to the record of funnels, if their writer is still the leader.
--
-- KEYS  1 fence (string: the newest fencing token)
--       then for each point: its stream, and the names of its funnel's values (hash: number -> value)
-- ARGV  1 the writer's fencing token
--       then for each point: boundary in ms; oldest boundary to keep in ms; seconds until the stream
--       may expire, and until the names may; the point's bytes; JSON [number, value, ...] of new names
-- Returns for each point 1 or, where the stream has it or a later one already, 0; or -1 when the token
-- is not the newest.
--
-- A stream's entries are in order of time, so what was recorded once is not recorded again.

local FENCED = -1
local EACH = 6

if #KEYS % 2 ~= 1 or #ARGV ~= 1 + EACH * (#KEYS - 1) / 2 then
  return redis.error_reply('history: wants two keys and six arguments a point')
end
-- Equal as text: as numbers two tokens past 2^53 could look the same.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return FENCED end

local out = {}
for number = 1, (#KEYS - 1) / 2 do
  local stream, names = KEYS[2 * number], KEYS[2 * number + 1]
  local at, oldest, expire, names_expire, bytes, fresh = unpack(ARGV, 2 + EACH * (number - 1), 1 + EACH * number)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if newest and tonumber(string.match(newest[1], '^%d+')) >= tonumber(at) then
    out[number] = 0
  else
    -- Names first: a point must never be there without them.
    local new = cjson.decode(fresh)
    if #new > 0 then redis.call('HSET', names, unpack(new)) end
    redis.call('EXPIRE', names, names_expire)
    redis.call('XADD', stream, 'MINID', '~', oldest, at .. '-0', 'p', bytes)
    redis.call('EXPIRE', stream, expire)
    out[number] = 1
  end
end
return out
