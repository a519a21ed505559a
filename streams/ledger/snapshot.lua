-- All counts of a shard at one moment. KEYS[1] {shard}:meta
-- ARGV 1 prefix of the shard's keys  2 msgpack [definition, width, count, definition, width, count, ...]
-- Returns msgpack [[meta fields], [key, [fields], key, [fields], ...]]
local meta = redis.call('HGETALL', KEYS[1])
if #meta == 0 then return false end
local watermark = tonumber(redis.call('HGET', KEYS[1], 'watermark'))
local kept = cmsgpack.unpack(ARGV[2])
local found, seen = {}, {}
local function take(key)
  local cells = redis.call('HGETALL', ARGV[1] .. key)
  if #cells > 0 then
    found[#found + 1] = key
    found[#found + 1] = cells
  end
end
for i = 1, #kept, 3 do
  local definition, width, count = string.format('%.0f', kept[i]), kept[i + 1], kept[i + 2]
  if not seen[definition] then
    seen[definition] = true
    take('t:' .. definition)
  end
  if watermark >= 0 then
    local newest = math.floor(watermark / (width * 1000000))
    for bucket = newest - count, newest do
      take('c:' .. definition .. ':' .. width .. ':' .. string.format('%.0f', bucket))
    end
  end
end
return cmsgpack.pack({meta, found})
