-- Take a shard over. KEYS[1] {shard}:meta
-- ARGV 1 token  2 offset where a new shard begins  3 generation of a new shard  4 fingerprints of pseudonym keys, comma between,
--      the first of them the new holder's (none: empty)  5... definitions that are counted from now on
-- A definition that the holder before did not count begins at the watermark; one that is counted no more has ended.
-- Returns [epoch, all fields of meta], or ["key", fingerprint] where the shard was held with another key
local meta = KEYS[1]
local known, ours = {}, string.match(ARGV[4], '^[^,]*')
for fingerprint in string.gmatch(ARGV[4] .. ',', '([^,]*),') do known[fingerprint] = true end
local key = redis.call('HGET', meta, 'key') or ''
if redis.call('HEXISTS', meta, 'generation') == 1 and not known[key] then return {'key', key} end
if redis.call('HEXISTS', meta, 'generation') == 0 then
  redis.call('HSET', meta, 'next', ARGV[2], 'watermark', '-1', 'generation', ARGV[3], 'seq', '0', 'done', '0')
  if ARGV[2] ~= '0' then redis.call('HSET', meta, 'gap', '1') end
end
local counted = {}
for i = 5, #ARGV do counted['since:' .. ARGV[i]] = true end
for _, field in ipairs(redis.call('HKEYS', meta)) do
  if string.sub(field, 1, 6) == 'since:' and not counted[field] then redis.call('HDEL', meta, field) end
end
local watermark = redis.call('HGET', meta, 'watermark')
for field in pairs(counted) do redis.call('HSETNX', meta, field, watermark) end
local epoch = redis.call('HINCRBY', meta, 'epoch', 1)
redis.call('HSET', meta, 'token', ARGV[1])
if ours == '' then redis.call('HDEL', meta, 'key') else redis.call('HSET', meta, 'key', ours) end
return {tostring(epoch), redis.call('HGETALL', meta)}
