-- Write one evaluation of the alert rules as a whole, if its writer is still the leader.
--
-- KEYS  1 alerts (hash: alert -> state)         2 outbox (hash: id -> entry)
--       3 transitions (list, newest first)      4 fence (string: the newest fencing token)
-- ARGV  1 the writer's fencing token
--       2 JSON {"states":  [[alert, state], ...], "removed":     [alert, ...],
--               "entries": [[id, entry], ...],    "transitions": [transition, ...]}, all strings
--       3 most entries in the outbox            4 most transitions kept
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

local KINDS = {'hash', 'hash', 'list', 'string'}
if #KEYS ~= #KINDS or #ARGV ~= 4 then
  return redis.error_reply('commit: wants 4 keys and 4 arguments')
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
local entries_max, transitions_max = tonumber(ARGV[3]), tonumber(ARGV[4])
if not (read and type(change) == 'table' and entries_max and transitions_max) then
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
for place, entry in ipairs(change.entries) do
  if place <= room then
    redis.call('HSET', KEYS[2], entry[1], entry[2])
  else
    lost = lost + 1
  end
end
for _, transition in ipairs(change.transitions) do
  redis.call('LPUSH', KEYS[3], transition)
end
redis.call('LTRIM', KEYS[3], 0, transitions_max - 1)
for _, alert in ipairs(change.removed) do
  redis.call('HDEL', KEYS[1], alert)
end
for _, state in ipairs(change.states) do
  redis.call('HSET', KEYS[1], state[1], state[2])
end
return lost
