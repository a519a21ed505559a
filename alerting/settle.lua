-- Take an entry from the outbox, sent or given up, or put it off; if the writer is still the leader.
--
-- KEYS  1 outbox (hash: id -> entry)            2 fence (string: the newest fencing token)
--       3 dead letters (hash: id -> letter)     4 their order (sorted set: id by time)
-- ARGV  1 the writer's fencing token            2 'sent', 'later' or 'dead'
--       3 the entry's id                        4 the entry as it is to be kept
--       5 dead: why it was given up             6 dead: most letters kept
-- Returns 1, or -1 when the token is not the newest.
--
-- Nothing happens to an entry that is no longer there: another leader has sent it meanwhile.

if #KEYS ~= 4 or #ARGV ~= 6 then
  return redis.error_reply('settle: wants 4 keys and 6 arguments')
end
for place, kind in ipairs({'hash', 'string', 'hash', 'zset'}) do
  local found = redis.call('TYPE', KEYS[place]).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('settle: key ' .. KEYS[place] .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
local verb, id, letters_max = ARGV[2], ARGV[3], tonumber(ARGV[6])
if redis.call('HEXISTS', KEYS[1], id) == 0 then return 1 end
if verb == 'later' then
  redis.call('HSET', KEYS[1], id, ARGV[4])
  return 1
end
if verb == 'dead' then
  -- Kept before it is taken: a crash in between leaves it in both places, and loses nothing.
  local time = redis.call('TIME')
  local at = string.format('%d.%06d', time[1], time[2])
  redis.call('HSET', KEYS[3], id, cjson.encode({entry = ARGV[4], error = ARGV[5], at = at}))
  redis.call('ZADD', KEYS[4], at, id)
  while redis.call('ZCARD', KEYS[4]) > letters_max do
    redis.call('HDEL', KEYS[3], redis.call('ZPOPMIN', KEYS[4])[1])
  end
end
redis.call('HDEL', KEYS[1], id)
return 1
