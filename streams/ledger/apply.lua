-- Apply one chunk to a shard: all of it, or none.
--
-- KEYS[1]  {shard}:meta        KEYS[2]  {shard}:states      KEYS[3]  {shard}:journal
-- ARGV     1 epoch  2 token  3 start  4 next  5 watermark  6 states  7 counts  8 fields  9 expired
--          10 journal length  11 prefix of the shard's keys  12 days a key outlives its last write
--          13 "1": fences on  14 forgotten
-- states   msgpack [entity, state, entity, state, ...]
-- counts   msgpack [key, [field, delta, ...], key, [field, delta, ...], ...]; appended to the journal as it is
-- fields   msgpack [[fate, delta, ...], [upstream partition, offset, ...], gone, time of the first event or -1]
-- expired  msgpack [key, ...]; forgotten likewise [entity, ...]
--
-- A script that fails midway keeps what it wrote, so everything that can be wrong is looked at before
-- the first write. The first write is the relative counter `seq`, the last one sets `done` to the same
-- number together with the position: if they differ on entry, a write was torn.
local EXACT = 9007199254740992 -- 2^53: whole numbers below it are exact in Lua, and Redis writes them without a point or exponent
local call, type, tonumber, unpack = redis.call, type, tonumber, unpack -- a chunk of many funnels has tens of thousands of counts
local meta, states_key, journal = KEYS[1], KEYS[2], KEYS[3]
local fenced = ARGV[13] == '1'

local function is_hash(key)
  local kind = redis.call('TYPE', key).ok
  return kind == 'hash' or kind == 'none'
end
local function whole(text)
  return type(text) == 'string' and string.find(text, '^%-?%d+$') ~= nil
end
local function is_exact(number)
  return number > -EXACT and number < EXACT
end
local function delta_ok(delta)
  return whole(delta) or (type(delta) == 'number' and delta == math.floor(delta))
end

if not is_hash(meta) or not is_hash(states_key) then return {'error', 'a key of the shard has another type'} end
local journal_kind = redis.call('TYPE', journal).ok
if journal_kind ~= 'list' and journal_kind ~= 'none' then return {'error', 'the journal has another type'} end
local held = redis.call('HMGET', meta, 'epoch', 'token', 'next', 'seq', 'done', 'generation', 'gap')
if not held[1] or not held[3] then return {'nostate'} end
if fenced then
  if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return {'fenced', held[1]} end
  if held[4] ~= held[5] then return {'corrupt'} end
  if held[3] ~= ARGV[3] then return {'mismatch', held[3]} end
end
for i = 3, 5 do
  if not whole(ARGV[i]) then return {'error', 'position or watermark is no number'} end
end

local states = cmsgpack.unpack(ARGV[6])
local counts = cmsgpack.unpack(ARGV[7])
local fields = cmsgpack.unpack(ARGV[8])
local expired = cmsgpack.unpack(ARGV[9])
local forgotten = cmsgpack.unpack(ARGV[14])
if #states % 2 ~= 0 or #counts % 2 ~= 0 then return {'error', 'odd number of items'} end
for i = 1, #states do
  if type(states[i]) ~= 'string' then return {'error', 'a state is no string'} end
end
for i = 1, #counts, 2 do
  local cells = counts[i + 1]
  if type(counts[i]) ~= 'string' or type(cells) ~= 'table' or #cells % 2 ~= 0 then return {'error', 'counts are malformed'} end
  if not is_hash(ARGV[11] .. counts[i]) then return {'error', 'a key of counts has another type'} end
  for j = 1, #cells, 2 do
    local delta = cells[j + 1]
    if type(cells[j]) ~= 'string' or not (type(delta) == 'number' and delta % 1 == 0 or whole(delta)) then
      return {'error', 'a count is malformed'}
    end
  end
end
local fates, upstream, gone, began = fields[1], fields[2], fields[3], fields[4]
for i = 1, #fates, 2 do
  if type(fates[i]) ~= 'string' or not delta_ok(fates[i + 1]) then return {'error', 'a fate is malformed'} end
end
for i = 1, #upstream do
  if not whole(upstream[i]) then return {'error', 'an upstream offset is malformed'} end
end
if type(gone) ~= 'number' or gone < 0 or gone ~= math.floor(gone) then return {'error', 'the number of records gone is malformed'} end
if type(began) ~= 'number' or not is_exact(began) or began ~= math.floor(began) then return {'error', 'the time of the first event is malformed'} end
for i = 1, #expired do
  if type(expired[i]) ~= 'string' then return {'error', 'an expired key is malformed'} end
end
for i = 1, #forgotten do
  if type(forgotten[i]) ~= 'string' then return {'error', 'a forgotten entity is malformed'} end
end

local ttl = tonumber(ARGV[12]) * 86400
local seq = redis.call('HINCRBY', meta, 'seq', 1)
for i = 1, #states, 4000 do redis.call('HSET', states_key, unpack(states, i, math.min(i + 3999, #states))) end
for i = 1, #forgotten, 4000 do
  redis.call('HDEL', states_key, unpack(forgotten, i, math.min(i + 3999, #forgotten)))
end
for i = 1, #counts, 2 do
  local key, cells = ARGV[11] .. counts[i], counts[i + 1]
  -- Read, add and write many at once: a command for each count would cost several times as much.
  for first = 1, #cells, 4000 do
    local last, names, n = math.min(first + 3999, #cells), {}, 0
    for j = first, last, 2 do
      n = n + 1
      names[n] = cells[j]
    end
    local stored, written, m = call('HMGET', key, unpack(names, 1, n)), {}, 0
    for j = 1, n do
      local delta, was = cells[first + 2 * j - 1], tonumber(stored[j] or 0)
      -- `was` is none for a field that is no number, and text is a delta that is past what is exact.
      local sum = was and type(delta) == 'number' and was > -EXACT and was < EXACT and was + delta
      if sum and sum > -EXACT and sum < EXACT then
        written[m + 1], written[m + 2] = names[j], sum
        m = m + 2
      else
        -- Only a sum past 64 bits can fail here; it stays where it was, and the rest goes on.
        redis.pcall('HINCRBY', key, names[j], delta)
      end
    end
    if m > 0 then call('HSET', key, unpack(written, 1, m)) end
  end
  if string.sub(counts[i], 1, 2) == 'c:' then redis.call('EXPIRE', key, ttl) end
end
for i = 1, #expired do redis.call('UNLINK', ARGV[11] .. expired[i]) end
if #counts > 0 then redis.call('RPUSH', journal, ARGV[7]) else redis.call('RPUSH', journal, '') end
redis.call('LTRIM', journal, -tonumber(ARGV[10]), -1)
for i = 1, #fates, 2 do redis.call('HINCRBY', meta, 'fate:' .. fates[i], fates[i + 1]) end
for i = 1, #upstream, 2 do redis.call('HSET', meta, 'up:' .. upstream[i], upstream[i + 1]) end
if gone > 0 then
  redis.call('HINCRBY', meta, 'gone', gone)
  redis.call('HSET', meta, 'gap', '1')
elseif held[7] and began >= 0 then
  redis.call('HSET', meta, 'whole', string.format('%.0f', began))
  redis.call('HDEL', meta, 'gap')
end
redis.call('HSET', meta, 'next', ARGV[4], 'watermark', ARGV[5], 'done', seq)
return {'ok', seq, held[6] or ''}
