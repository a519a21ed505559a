-- Write one evaluation of the alert rules as a whole, if its writer is still the leader.
--
-- KEYS  1 alerts (hash: alert -> state)         2 outbox (hash: id -> entry)
--       3 transitions (list, newest first)      4 fence (string: the newest fencing token)
--       5 dead letters (hash: id -> letter)     6 their order (sorted set: id by time)
--       7 acknowledgements (hash: alert -> acknowledgement)
-- ARGV  1 the writer's fencing token
--       2 JSON {"states":  [[alert, state], ...], "removed":     [alert, ...],
--               "entries": [[id, entry], ...],    "transitions": [transition, ...]}, all strings
--       3 most entries in the outbox            4 most transitions kept
--       5 most dead letters kept                6 what a letter says that a full outbox did not take
-- Returns how many entries a full outbox did not take, or -1 when the token is not the newest.
--
-- Redis does not undo the first half of a script that fails in its second, so everything that can
-- fail is looked at before the first write.

local FENCED = -1

local function is_text(x)
  return type(x) == 'string'
end

local function is_pair(x)
  return type(x) == 'table' and #x == 2 and is_text(x[1]) and is_text(x[2])
end

local function all(list, is_right)
  if type(list) ~= 'table' then return false end
  for _, item in ipairs(list) do
    if not is_right(item) then return false end
  end
  return true
end

local KINDS = {'hash', 'hash', 'list', 'string', 'hash', 'zset', 'hash'}
if #KEYS ~= #KINDS or #ARGV ~= 6 then
  return redis.error_reply('commit: wants 7 keys and 6 arguments')
end
for place, kind in ipairs(KINDS) do
  local found = redis.call('TYPE', KEYS[place]).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('commit: key ' .. KEYS[place] .. ' is a ' .. found .. ', not a ' .. kind)
  end
end

-- Equal as text: as numbers two tokens past 2^53 could look the same.
if redis.call('GET', KEYS[4]) ~= ARGV[1] then return FENCED end

local read, change = pcall(cjson.decode, ARGV[2])
local entries_max, transitions_max, letters_max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not (read and type(change) == 'table' and entries_max and transitions_max and letters_max) then
  return redis.error_reply('commit: unreadable arguments')
end
if not (all(change.states, is_pair) and all(change.removed, is_text)
    and all(change.entries, is_pair) and all(change.transitions, is_text)) then
  return redis.error_reply('commit: a change of the wrong shape')
end

-- States come last: should a crash tear the log of writes inside this script, the boundary counts
-- as not evaluated, and doing it again writes the same entries under the same ids.
local room = entries_max - redis.call('HLEN', KEYS[2])
local lost = 0
local time = redis.call('TIME')
for place, entry in ipairs(change.entries) do
  if place <= room then
    redis.call('HSET', KEYS[2], entry[1], entry[2])
  else
    lost = lost + 1
    local at = string.format('%d.%06d', time[1], time[2])
    redis.call('HSET', KEYS[5], entry[1], cjson.encode({entry = entry[2], error = ARGV[6], at = at}))
    redis.call('ZADD', KEYS[6], at, entry[1])
  end
end
while redis.call('ZCARD', KEYS[6]) > letters_max do
  redis.call('HDEL', KEYS[5], redis.call('ZPOPMIN', KEYS[6])[1])
end
for _, transition in ipairs(change.transitions) do
  redis.call('LPUSH', KEYS[3], transition)
end
redis.call('LTRIM', KEYS[3], 0, transitions_max - 1)
for _, alert in ipairs(change.removed) do
  redis.call('HDEL', KEYS[1], alert)
  redis.call('HDEL', KEYS[7], alert)
end
for _, state in ipairs(change.states) do
  redis.call('HSET', KEYS[1], state[1], state[2])
end
return lost
